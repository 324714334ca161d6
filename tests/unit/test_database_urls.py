"""Addresses of the database: TLS in them, passwords out of what is shown, and who is told which."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from ledger.event_store.database_url import checked, redacted, unprotected_host, with_login, with_tls
from ledger.settings import Settings
from service.addresses import named_addresses
from service.stack import Addresses, StackError
from service.up.children import database_environment, own_environment

SENTINEL = "s3ntinel"
URL = f"postgresql://ada:{SENTINEL}@db.example:5433/ledger"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (URL, "postgresql://ada:***@db.example:5433/ledger"),
        ("postgresql://ada@db/ledger", "postgresql://ada@db/ledger"),
        (f"postgresql://ada:{SENTINEL}@one:1,two:2/ledger", "postgresql://ada:***@one:1,two:2/ledger"),
        (f"postgresql://ada:a%40{SENTINEL}@[::1]:1/ledger", "postgresql://ada:***@[::1]:1/ledger"),
        (
            f"postgresql://db/ledger?user=ada&password={SENTINEL}&sslmode=require",
            "postgresql://db/ledger?user=ada&password=***&sslmode=require",
        ),
    ],
)
def test_a_shown_url_has_no_password(url: str, shown: str) -> None:
    assert redacted(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://ada:{SENTINEL}/{SENTINEL}@db/ledger",
        f"postgresql://ada:{SENTINEL}@{SENTINEL}@db/ledger",
        f"postgresql://ada:{SENTINEL}#{SENTINEL}@db/ledger",
        f"mysql://ada:{SENTINEL}@db/ledger",
        f"postgresql://[{SENTINEL}",
        SENTINEL,
    ],
)
def test_a_url_that_cannot_be_one_is_refused_without_being_shown(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="not the URL of a database") as refused:
        checked(url)
    assert SENTINEL not in str(refused.value)
    assert refused.value.__context__ is None or refused.value.__suppress_context__
    monkeypatch.setenv("LEDGER_WRITER_DATABASE_URL", url)
    with pytest.raises(ValidationError) as wrong:
        Settings()
    assert SENTINEL not in str(wrong.value)


def test_tls_is_asked_for_unless_the_url_says_it_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert with_tls(URL, None, None) == URL
    assert with_tls(URL, "verify-full", "/a b/ca.pem") == f"{URL}?sslmode=verify-full&sslrootcert=/a%20b/ca.pem"
    said = f"{URL}?sslmode=require"
    assert with_tls(said, "verify-full", None) == said

    ca_file = tmp_path / "ca.pem"
    monkeypatch.setenv("LEDGER_DATABASE_URL", URL)
    monkeypatch.setenv("LEDGER_KAFKA_BOOTSTRAP_SERVERS", "k:1")
    monkeypatch.setenv("LEDGER_DATABASE_TLS", "verify-full")
    monkeypatch.setenv("LEDGER_DATABASE_CA_FILE", str(ca_file))
    with pytest.raises(ValidationError, match="does not point to a file"):
        Settings()
    ca_file.touch()
    named = named_addresses(Settings())
    assert named is not None
    assert named.database_url == f"{URL}?sslmode=verify-full&sslrootcert={ca_file}"


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("127.0.0.1:5432/ledger", None),
        ("[::1]:5432/ledger", None),
        ("localhost/ledger", None),
        ("/ledger?host=/run/postgresql", None),
        ("db.example/ledger", "db.example"),
        ("10.0.0.7:5432/ledger?sslmode=prefer", "10.0.0.7"),
        ("10.0.0.7:5432/ledger?sslmode=disable", "10.0.0.7"),
        ("10.0.0.7:5432/ledger?sslmode=require", None),
        ("localhost:1,db.example:2/ledger", "db.example"),
        ("[2001:db8::1]:1/ledger", "2001:db8::1"),
    ],
)
def test_a_host_elsewhere_without_tls_is_noticed(address: str, host: str | None) -> None:
    assert unprotected_host(f"postgresql://ada:x@{address}") == host


def test_another_login_keeps_the_rest_of_the_url() -> None:
    url = with_login(f"{URL}?sslmode=require", "grace", "p@ss/w")
    assert url == "postgresql://grace:p%40ss%2Fw@db.example:5433/ledger?sslmode=require"


def test_addresses_are_shown_without_urls_and_fall_back_to_the_owners() -> None:
    addresses = Addresses("k:1", URL, reader_database_url="postgresql://reader@db/ledger")
    assert SENTINEL not in repr(addresses)
    assert addresses.database("reader") == "postgresql://reader@db/ledger"
    assert addresses.database("writer") == addresses.database("owner") == URL
    with pytest.raises(StackError, match="LEDGER_WRITER_DATABASE_URL"):
        Addresses("k:1", "").database("writer")


def test_a_child_is_told_of_its_own_login_only() -> None:
    ours = {"PATH": "/bin", "LEDGER_DATABASE_URL": URL, "LEDGER_APP_DATABASE_URL": URL, "LEDGER_HOME": "here"}
    own = Addresses("k:1", URL, "writer", "projector", "reader", "app")
    consumer = own_environment(ours, database_environment(own, ("writer",)))
    assert consumer == {"PATH": "/bin", "LEDGER_HOME": "here", "LEDGER_WRITER_DATABASE_URL": "writer"}
    http = own_environment(ours, database_environment(own, ("reader", "app")))
    assert "LEDGER_DATABASE_URL" not in http
    assert (http["LEDGER_READER_DATABASE_URL"], http["LEDGER_APP_DATABASE_URL"]) == ("reader", "app")
    none = own_environment(ours, database_environment(Addresses("k:1", URL), ("writer",)))
    assert none["LEDGER_DATABASE_URL"] == URL
