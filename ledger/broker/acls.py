"""Who may do what with a ledger's topics and groups, as Kafka's access control lists (ACLs).

A command topic is its app's identity: no field of a message is believed on that. So Kafka must let only the app write
it, and only the ledger write events (source: docs/operating.md, "Who may write which topic").
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, Protocol

from ledger.messages.topics import Topics

Resource = Literal["topic", "group"]
Pattern = Literal["literal", "prefixed"]

ANY_HOST: Final = "*"
_CHANGING: Final = frozenset({"ALL", "WRITE", "DELETE", "ALTER", "ALTER_CONFIGS"})
"""Rights with which a topic's content can be changed."""

_JOINING: Final = frozenset({"ALL", "READ", "DELETE"})
"""Rights with which a group's partitions can be taken from its members."""


class AclsRefusedError(Exception):
    """The cluster has no access control, or refuses to tell or change it. The text says what to do."""


class PrincipalsClashError(ValueError):
    """Two parts of the ledger would be the same principal, so that neither could be kept from the other's topics."""


class Acl(NamedTuple):
    """One right of one principal. `operation` by Kafka's name (`READ`, `WRITE`, `DESCRIBE`, `CREATE`, ...)."""

    principal: str
    operation: str
    resource: Resource
    pattern: Pattern
    name: str
    host: str = ANY_HOST

    def __str__(self) -> str:
        names = f"{self.name}*" if self.pattern == "prefixed" else self.name
        host = "" if self.host == ANY_HOST else f" from {self.host}"
        return f"{self.principal} may {self.operation} {self.resource} {names}{host}"


class AclAdmin(Protocol):
    """Reads and changes what the cluster allows. Each call raises BrokerUnavailableError and AclsRefusedError."""

    async def allowed(self) -> Collection[Acl]:
        """Every right on a topic or a group that is allowed; what is denied is not among them."""

    async def allow(self, acls: Sequence[Acl]) -> None:
        """Add these; one that is there is left as it is."""

    async def withdraw(self, acls: Sequence[Acl]) -> None:
        """Remove exactly these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Principals:
    """For whom the brokers take each part of the ledger (`User:NAME`, or as a certificate's name is mapped)."""

    consumer: str = "User:ledger"
    projector: str = "User:ledger-projector"
    operator: str = "User:ledger-operator"
    apps: Mapping[str, str] = field(default_factory=dict)
    """Of apps that are not `User:<app>`."""

    http: str | None = None
    """Of an HTTP service that publishes for the API keys of all apps; None: it is the app `http_app` and no other."""

    http_app: str = ""
    """The app whose own routes and subscriber the HTTP service has."""

    def of_app(self, app: str) -> str:
        """The principal of one app."""
        return self.apps.get(app, f"User:{app}")


def wanted_acls(topics: Topics, apps: Collection[str], principals: Principals) -> list[Acl]:
    """The rights of a ledger with these apps, and no more.

    READ, WRITE and CREATE bring DESCRIBE with them; an idempotent producer needs no right beyond WRITE.

    Raises:
        PrincipalsClashError: two parts would be the same principal.
    """
    _distinct(apps, principals)
    ledger, projector, operator = principals.consumer, principals.projector, principals.operator
    commands, parked = topics.commands(""), topics.parked("")
    acls = [
        Acl(ledger, "READ", "topic", "prefixed", commands),
        *(Acl(ledger, right, "topic", "literal", name) for name in _answers(topics) for right in ("READ", "WRITE")),
        Acl(ledger, "READ", "group", "literal", topics.consumer_group),
        Acl(projector, "READ", "topic", "literal", topics.events),
        Acl(projector, "READ", "group", "literal", topics.projection_group()),
        # Makes topics; sends for an app what comes back out of quarantine, and releases what is parked.
        Acl(operator, "CREATE", "topic", "prefixed", f"{topics.prefix}."),
        Acl(operator, "DESCRIBE", "topic", "prefixed", f"{topics.prefix}."),
        *(
            Acl(operator, right, "topic", "prefixed", name)
            for name in (commands, parked)
            for right in ("READ", "WRITE")
        ),
        # Empties what the record is published on, to have it published again (`ledger republish`).
        *(Acl(operator, right, "topic", "literal", name) for name in _answers(topics) for right in ("READ", "DELETE")),
        Acl(operator, "DESCRIBE", "group", "prefixed", f"{topics.prefix}."),
    ]
    for app in sorted(apps):
        acls += _of_app(topics, app, principals.of_app(app))
    if principals.http is not None:
        own = _of_app(topics, principals.http_app, principals.http)
        acls += [acl for acl in own if acl.name != topics.commands(principals.http_app)]
        acls.append(Acl(principals.http, "WRITE", "topic", "prefixed", commands))
    return acls


@dataclass(frozen=True, slots=True)
class AclReport:
    """The rights on a ledger's topics and groups, each in one field."""

    added: tuple[Acl, ...] = ()
    right: tuple[Acl, ...] = ()
    missing: tuple[Acl, ...] = ()
    superfluous: tuple[Acl, ...] = ()
    """On the ledger's own names, wanted by nobody here."""
    removed: tuple[Acl, ...] = ()
    wider: tuple[Acl, ...] = ()
    """On patterns that reach beyond the ledger's names (`*`, say) and its topics too: never removed from here."""
    open_doors: tuple[Acl, ...] = ()
    """Those of `superfluous` and `wider` by which somebody else can write, or take partitions away."""

    @property
    def sound(self) -> bool:
        """Whether everybody can do what they must, and nobody else can change anything."""
        return not self.missing and not self.open_doors


async def sync_acls(admin: AclAdmin, wanted: Sequence[Acl], topics: Topics, *, prune: bool = False) -> AclReport:
    """Add what is missing; remove what is superfluous only when told so. Raises what AclAdmin does."""
    before = _compared(await admin.allowed(), wanted, topics)
    if before.missing:
        await admin.allow(before.missing)
    if prune and before.superfluous:
        await admin.withdraw(before.superfluous)
    after = _compared(await admin.allowed(), wanted, topics)
    added = tuple(acl for acl in before.missing if acl in after.right)
    removed = tuple(acl for acl in before.superfluous if acl not in after.superfluous)
    return AclReport(
        added=added,
        right=tuple(acl for acl in after.right if acl not in added),
        missing=after.missing,
        superfluous=after.superfluous,
        removed=removed,
        wider=after.wider,
        open_doors=after.open_doors,
    )


async def check_acls(admin: AclAdmin, wanted: Sequence[Acl], topics: Topics) -> AclReport:
    """Report without changing anything. Raises what AclAdmin does."""
    return _compared(await admin.allowed(), wanted, topics)


def _of_app(topics: Topics, app: str, principal: str) -> list[Acl]:
    groups = [f"{topics.prefix}.{app}."]
    if app != topics.prefix:  # `ledger.` would reach the groups of the ledger itself
        groups.append(f"{app}.")
    return [
        Acl(principal, "WRITE", "topic", "literal", topics.commands(app)),
        Acl(principal, "READ", "topic", "literal", topics.parked(app)),
        Acl(principal, "WRITE", "topic", "literal", topics.parked(app)),
        *(Acl(principal, "READ", "topic", "literal", name) for name in _answers(topics)),
        *(Acl(principal, "READ", "group", "prefixed", name) for name in groups),
    ]


def _answers(topics: Topics) -> tuple[str, str]:
    return topics.events, topics.replays


def _distinct(apps: Collection[str], principals: Principals) -> None:
    parts: dict[str, str] = {}
    named = {
        "the ledger consumers (LEDGER_KAFKA_CONSUMER_PRINCIPAL)": principals.consumer,
        "the projection workers (LEDGER_KAFKA_PROJECTOR_PRINCIPAL)": principals.projector,
        "the operator (LEDGER_KAFKA_OPERATOR_PRINCIPAL)": principals.operator,
    } | {f"the app {app} (LEDGER_KAFKA_APP_PRINCIPALS)": principals.of_app(app) for app in sorted(apps)}
    if principals.http is not None:
        named["the HTTP service (LEDGER_KAFKA_HTTP_PRINCIPAL)"] = principals.http
    for part, principal in named.items():
        if principal in parts:
            raise PrincipalsClashError(
                f"{parts[principal]} and {part} would both be {principal}: give each a principal of its own"
            )
        parts[principal] = part


def _compared(allowed: Collection[Acl], wanted: Sequence[Acl], topics: Topics) -> AclReport:
    unwanted = sorted(set(allowed) - set(wanted))
    superfluous = tuple(acl for acl in unwanted if _is_own(acl, topics))
    wider = tuple(acl for acl in unwanted if not _is_own(acl, topics) and _reaches(acl, topics))
    return AclReport(
        right=tuple(acl for acl in wanted if acl in allowed),
        missing=tuple(acl for acl in wanted if acl not in allowed),
        superfluous=superfluous,
        wider=wider,
        open_doors=tuple(acl for acl in (*superfluous, *wider) if _opens(acl, topics)),
    )


def _is_own(acl: Acl, topics: Topics) -> bool:
    """Whether it speaks of nothing but this ledger's names."""
    return acl.name.startswith(f"{topics.prefix}.")


def _reaches(acl: Acl, topics: Topics) -> bool:
    """Whether it speaks of this ledger's names too."""
    if acl.pattern == "literal":
        return acl.name == "*"
    return f"{topics.prefix}.".startswith(acl.name)


def _opens(acl: Acl, topics: Topics) -> bool:
    if acl.resource == "topic":
        return acl.operation in _CHANGING
    groups = (topics.consumer_group, topics.projection_group())
    met = any(group.startswith(acl.name) if acl.pattern == "prefixed" else acl.name in (group, "*") for group in groups)
    return met and acl.operation in _JOINING
