"""Postgres by TLS: the right server is spoken to, and no other, whatever part of the ledger connects."""

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import trustme

from ledger.event_store.connections import connect
from ledger.event_store.database_url import TlsMode, with_tls
from ledger.event_store.postgres import PostgresEventStore
from ledger.event_store.protocol import StoreUnavailableError
from ledger.event_store.tls_refusals import TlsRefusedError
from projections.read_pool import ReadPool
from service.database import prepare_database
from service.stack.answering import postgres_answers, until_answering
from service.stack.ports import choose_free
from tests.cli_process import cli_environment, ledger_cli
from tests.ledger_on_servers import ledger_on_servers
from tests.servers import server_home
from tests.tls_proxy import TlsProxy, tls_proxy

pytestmark = pytest.mark.integration

DEBIAN_POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))


class Authority:
    """Who signs, and where its certificate lies."""

    def __init__(self, folder: Path, name: str) -> None:
        self.ca = trustme.CA()
        self.file = str(folder / f"{name}.pem")
        self.ca.cert_pem.write_to_path(self.file)

    def server_context(self, host: str = "localhost") -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.ca.issue_cert(host).configure_cert(context)
        return context


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ours")


@pytest.fixture
async def proxy(postgres_server_url: str, ours: Authority) -> AsyncIterator[TlsProxy]:
    async with tls_proxy(postgres_server_url, ours.server_context()) as running:
        yield running


async def connected(url: str) -> None:
    connection = await connect(url, role=None, application="test")
    assert await connection.fetchval("SELECT 1") == 1
    connection.terminate()


async def test_every_part_connects_to_the_server_that_is_trusted(
    proxy: TlsProxy, ours: Authority, empty_database_url: str
) -> None:
    url = with_tls(proxy.url(empty_database_url), "verify-full", ours.file)
    await prepare_database(url, 4)  # Alembic, and what follows it
    migrated = proxy.handshakes
    store = PostgresEventStore(url)
    await store.start()
    await store.stop()
    pool = ReadPool(url)
    await pool.start()
    assert await pool.partition("ada") in range(4)
    await pool.stop()
    assert await postgres_answers(url) is None
    assert (migrated >= 3, proxy.handshakes) == (True, migrated + 3)


async def test_a_server_that_somebody_else_signed_is_refused(
    proxy: TlsProxy, ledger_database_url: str, tmp_path: Path
) -> None:
    theirs = Authority(tmp_path, "theirs")
    url = with_tls(proxy.url(ledger_database_url), "verify-ca", theirs.file)
    with pytest.raises(TlsRefusedError, match=r"not trusted .*LEDGER_DATABASE_CA_FILE"):
        await connected(url)
    store = PostgresEventStore(url)
    with pytest.raises(StoreUnavailableError, match="not trusted"):
        await store.start()
    pool = ReadPool(url)
    await pool.start()
    with pytest.raises(StoreUnavailableError, match="not trusted"):
        await pool.partition("ada")
    await pool.stop()
    with pytest.raises(TlsRefusedError, match="not trusted"):
        await prepare_database(url, 12)
    assert "not trusted" in str(await postgres_answers(url))
    assert proxy.handshakes == 0


async def test_a_server_under_another_name_is_refused_only_when_names_are_checked(
    proxy: TlsProxy, ours: Authority, ledger_database_url: str
) -> None:
    by_number = proxy.url(ledger_database_url, host="127.0.0.1")
    with pytest.raises(TlsRefusedError, match="is for another host"):
        await connected(with_tls(by_number, "verify-full", ours.file))
    await connected(with_tls(by_number, "verify-ca", ours.file))
    await connected(with_tls(by_number, "require", None))


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
async def test_a_server_without_tls_is_refused_where_it_is_demanded(
    mode: TlsMode, ledger_database_url: str, ours: Authority
) -> None:
    with pytest.raises(TlsRefusedError, match=r"has no TLS, and the settings demand it"):
        await connected(with_tls(ledger_database_url, mode, ours.file))
    await connected(with_tls(ledger_database_url, "prefer", None))
    await connected(with_tls(ledger_database_url, "disable", None))


async def test_the_settings_reach_the_processes(
    proxy: TlsProxy, ours: Authority, kafka_bootstrap: str, empty_database_url: str, tmp_path: Path
) -> None:
    async with ledger_on_servers(kafka_bootstrap, empty_database_url) as ledger:
        environment = cli_environment(ledger, tmp_path) | {
            "LEDGER_DATABASE_URL": proxy.url(empty_database_url),
            "LEDGER_DATABASE_TLS": "verify-full",
            "LEDGER_DATABASE_CA_FILE": ours.file,
        }
        done = await ledger_cli("migrate", "--json", environment=environment)
        assert done.code == 0, done.err
        assert proxy.handshakes >= 3
        environment["LEDGER_DATABASE_CA_FILE"] = Authority(tmp_path, "theirs").file
        refused = await ledger_cli("verify", "--no-kafka", environment=environment)
        assert refused.code == 3
        assert "not trusted" in refused.err
        environment["LEDGER_DATABASE_CA_FILE"] = str(tmp_path / "nowhere.pem")
        unreadable = await ledger_cli("verify", "--no-kafka", environment=environment)
        assert (unreadable.code, "LEDGER_DATABASE_CA_FILE" in unreadable.err) == (2, True), unreadable.err


@pytest.mark.slow
@pytest.mark.skipif(not DEBIAN_POSTGRES, reason="no Postgres with TLS in /usr/lib/postgresql")
async def test_a_postgres_that_speaks_tls_itself(tmp_path: Path) -> None:
    with server_home() as home:
        ours = Authority(home, "ours")
        certificate = ours.ca.issue_cert("localhost")
        certificate.private_key_pem.write_to_path(home / "server.key")
        certificate.cert_chain_pems[0].write_to_path(home / "server.crt")
        port = choose_free(1)[0]
        server = await asyncio.to_thread(start_debian_postgres, home, port)
        try:
            plain = f"postgresql://ledger:ledger@localhost:{port}/postgres"
            assert await until_answering(postgres_answers, plain, 30.0) is None
            for url, encrypted in {
                with_tls(plain, "verify-full", ours.file): True,
                with_tls(plain, "disable", None): False,
            }.items():
                connection = await asyncpg.connect(url)
                assert (
                    await connection.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") is encrypted
                )
                await connection.close()
            with pytest.raises(TlsRefusedError, match="not trusted"):
                await connected(with_tls(plain, "verify-full", Authority(tmp_path, "theirs").file))
            by_number = plain.replace("localhost", "127.0.0.1")
            with pytest.raises(TlsRefusedError, match="another host"):
                await connected(with_tls(by_number, "verify-full", ours.file))
        finally:
            server.terminate()
            await asyncio.to_thread(server.wait, 30)


def start_debian_postgres(home: Path, port: int) -> "subprocess.Popen[bytes]":
    """It refuses to run as root, and runs as its own account then."""
    import os

    account = "postgres" if os.geteuid() == 0 else None
    programs = DEBIAN_POSTGRES[-1].parent
    (home / "password").write_text("ledger")
    for path in (home, *home.iterdir()):
        if account:
            shutil.chown(path, account)
    (home / "server.key").chmod(0o600)
    data = home / "data"
    as_account = {"user": account} if account else {}
    subprocess.run(
        [
            programs / "initdb",
            "-D",
            data,
            "-U",
            "ledger",
            "--auth=scram-sha-256",
            f"--pwfile={home / 'password'}",
            "-N",
        ],
        check=True,
        capture_output=True,
        cwd=home,
        **as_account,  # type: ignore[call-overload]
    )
    settings = {
        "port": port,
        "listen_addresses": "localhost",
        "unix_socket_directories": "",
        "ssl": "on",
        "ssl_cert_file": home / "server.crt",
        "ssl_key_file": home / "server.key",
        "fsync": "off",
    }
    command = [programs / "postgres", "-D", data, *(f"--{name}={value}" for name, value in settings.items())]
    with (home / "log").open("wb") as log:
        return subprocess.Popen(command, cwd=home, stdout=log, stderr=log, **as_account)  # type: ignore[call-overload,no-any-return]
