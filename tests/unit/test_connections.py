"""Addresses of several database servers."""

import pytest

from ledger.event_store.connections import one_by_one


@pytest.mark.parametrize(
    ("url", "servers"),
    [
        ("postgresql://u:p@a:1/d", ["postgresql://u:p@a:1/d"]),
        ("postgresql://u:p@a:1,b:2/d", ["postgresql://u:p@a:1/d", "postgresql://u:p@b:2/d"]),
        (
            "postgresql://a,b/d?sslmode=require",
            ["postgresql://a/d?sslmode=require", "postgresql://b/d?sslmode=require"],
        ),
        (
            "postgresql://u:p%40@[::1]:1,b/d?target_session_attrs=read-write&sslmode=disable",
            ["postgresql://u:p%40@[::1]:1/d?sslmode=disable", "postgresql://u:p%40@b/d?sslmode=disable"],
        ),
    ],
)
def test_each_server_has_a_url_of_its_own(url: str, servers: list[str]) -> None:
    assert one_by_one(url) == servers
