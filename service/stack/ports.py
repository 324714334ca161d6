"""TCP ports on loopback: choosing free ones, and saying who has a taken one."""

import asyncio
import random
import socket
import time

import psutil

LOOPBACK = "127.0.0.1"
# Below the usual ranges of ephemeral ports: no outgoing connection ever takes a remembered port.
_CHOSEN_FROM = range(20_000, 30_000)
_ATTEMPTS_MAX = 200
_FREED_WITHIN_S = 3.0
_PAUSE_S = 0.05


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now, as far as an attempt can tell."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


async def becomes_free(port: int) -> bool:
    """Whether a server could listen on the port, now or in a moment: a server that was just killed keeps its port
    until the last of its threads has ended, though its process counts as gone already."""
    deadline = time.monotonic() + _FREED_WITHIN_S
    while not is_free(port):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(_PAUSE_S)
    return True


def choose_free(count: int) -> list[int]:
    """Different ports that are free now, at random, so that two starts at one time rarely choose the same."""
    chosen: list[int] = []
    for port in random.sample(_CHOSEN_FROM, _ATTEMPTS_MAX):
        if is_free(port):
            chosen.append(port)
        if len(chosen) == count:
            return chosen
    raise OSError(f"no {count} free ports among {_ATTEMPTS_MAX} tried in {_CHOSEN_FROM}")


def holder(port: int) -> str:
    """Who listens on the port, for a message: `process 4711 (postgres)`, or `another program` if hidden."""
    try:
        for connection in psutil.net_connections("tcp"):
            if (
                connection.status == psutil.CONN_LISTEN
                and connection.laddr
                and connection.laddr.port == port
                and connection.pid
            ):
                return f"process {connection.pid} ({psutil.Process(connection.pid).name()})"
    except psutil.Error:
        pass  # other users' processes need rights that we may not have
    return "another program"
