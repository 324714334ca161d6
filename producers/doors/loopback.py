"""Which addresses are reached from this machine only."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether nobody outside this machine reaches this address; a name other than `localhost` may be anybody's."""
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def is_reached_from_outside(host: str) -> bool:
    """Whether this is an address, and not one of this machine only. A name is none: sockets tell numbers."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return not is_loopback(host)


def network_of(host: str) -> str:
    """What counts as one caller: the address, or of IPv6 its /64, of which one subscriber has all."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, 64), strict=False))
    return host
