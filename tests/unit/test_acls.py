"""Who may do what with a ledger's topics: what is wanted, what is missing, what is too much."""

from collections.abc import Collection, Sequence

import pytest

from ledger.broker.acls import Acl, Principals, PrincipalsClashError, check_acls, sync_acls, wanted_acls
from ledger.messages.topics import Topics

TOPICS = Topics()
APPS = ["shop", "till"]
WANTED = wanted_acls(TOPICS, APPS, Principals())


class Cluster:
    """AclAdmin in memory."""

    def __init__(self, allowed: Collection[Acl] = ()) -> None:
        self.rights = set(allowed)
        self.changes = 0

    async def allowed(self) -> Collection[Acl]:
        return set(self.rights)

    async def allow(self, acls: Sequence[Acl]) -> None:
        self.rights |= set(acls)
        self.changes += 1

    async def withdraw(self, acls: Sequence[Acl]) -> None:
        self.rights -= set(acls)
        self.changes += 1


def who_may(operation: str, resource: str, name: str) -> set[str]:
    """By what is wanted, judged as Kafka judges."""
    return {
        acl.principal
        for acl in WANTED
        if acl.operation == operation
        and acl.resource == resource
        and (name.startswith(acl.name) if acl.pattern == "prefixed" else name == acl.name)
    }


def test_only_an_app_and_the_operator_write_its_command_topic() -> None:
    assert who_may("WRITE", "topic", "ledger.commands.shop") == {"User:shop", "User:ledger-operator"}
    assert who_may("READ", "topic", "ledger.commands.shop") == {"User:ledger", "User:ledger-operator"}


def test_nobody_but_the_ledger_writes_events() -> None:
    assert who_may("WRITE", "topic", "ledger.events") == {"User:ledger"}
    assert who_may("WRITE", "topic", "ledger.replays") == {"User:ledger"}


def test_nobody_may_change_a_topic_and_only_what_can_be_written_again_may_be_emptied() -> None:
    assert {acl.operation for acl in WANTED} == {"READ", "WRITE", "CREATE", "DESCRIBE", "DELETE"}
    deletable = {(acl.principal, acl.pattern, acl.name) for acl in WANTED if acl.operation == "DELETE"}
    assert deletable == {("User:ledger-operator", "literal", name) for name in ("ledger.events", "ledger.replays")}
    assert {acl.principal for acl in WANTED if acl.operation == "CREATE"} == {"User:ledger-operator"}


def test_nobody_but_its_members_joins_a_group_of_the_ledger() -> None:
    assert who_may("READ", "group", "ledger.consumers") == {"User:ledger"}
    assert who_may("READ", "group", "ledger.projections") == {"User:ledger-projector"}
    assert who_may("READ", "group", "shop.stock") == {"User:shop"}
    assert who_may("READ", "group", "ledger.shop.stock") == {"User:shop"}


def test_an_app_that_is_called_like_the_ledger_gets_no_right_to_the_groups_of_the_ledger() -> None:
    acls = wanted_acls(TOPICS, ["ledger"], Principals(apps={"ledger": "User:app-ledger"}))
    groups = [acl.name for acl in acls if acl.principal == "User:app-ledger" and acl.resource == "group"]
    assert groups == ["ledger.ledger."]


def test_an_http_service_for_all_apps_writes_their_commands_and_reads_none() -> None:
    acls = wanted_acls(TOPICS, APPS, Principals(http="User:http", http_app="shop"))
    own = {(acl.operation, acl.resource, acl.name) for acl in acls if acl.principal == "User:http"}
    assert own == {
        ("WRITE", "topic", "ledger.commands."),
        ("READ", "topic", "ledger.parked.shop"),
        ("WRITE", "topic", "ledger.parked.shop"),
        ("READ", "topic", "ledger.events"),
        ("READ", "topic", "ledger.replays"),
        ("READ", "group", "ledger.shop."),
        ("READ", "group", "shop."),
    }


def test_the_names_follow_the_prefix() -> None:
    acls = wanted_acls(Topics("blue"), ["shop"], Principals())
    assert {acl.name.split(".")[0] for acl in acls} == {"blue", "shop"}
    assert Acl("User:shop", "WRITE", "topic", "literal", "blue.commands.shop") in acls


@pytest.mark.parametrize(
    ("apps", "principals"),
    [
        (["ledger"], Principals()),
        (["ledger-operator"], Principals()),
        (["shop", "till"], Principals(apps={"shop": "User:till"})),
        (["shop"], Principals(projector="User:ledger")),
        (["shop"], Principals(http="User:shop", http_app="shop")),
    ],
)
def test_two_parts_that_are_one_principal_are_refused(apps: list[str], principals: Principals) -> None:
    with pytest.raises(PrincipalsClashError, match=r"LEDGER_KAFKA_.*_PRINCIPAL"):
        wanted_acls(TOPICS, apps, principals)


async def test_what_is_missing_is_added_once() -> None:
    cluster = Cluster()
    first = await sync_acls(cluster, WANTED, TOPICS)
    assert (set(first.added), first.right, first.missing, first.sound) == (set(WANTED), (), (), True)
    again = await sync_acls(cluster, WANTED, TOPICS)
    assert (again.added, set(again.right), cluster.changes) == ((), set(WANTED), 1)


async def test_checking_changes_nothing() -> None:
    cluster = Cluster()
    report = await check_acls(cluster, WANTED, TOPICS)
    assert (set(report.missing), report.sound, cluster.changes) == (set(WANTED), False, 0)


async def test_what_is_superfluous_is_named_and_removed_only_when_told() -> None:
    harmless = Acl("User:analyst", "READ", "topic", "literal", "ledger.events")
    former = Acl("User:till", "WRITE", "topic", "literal", "ledger.commands.old-till")
    elsewhere = Acl("User:till", "WRITE", "topic", "literal", "orders")
    cluster = Cluster([*WANTED, harmless, former, elsewhere])
    report = await sync_acls(cluster, WANTED, TOPICS)
    assert (set(report.superfluous), report.removed, cluster.changes) == ({harmless, former}, (), 0)
    assert (report.open_doors, report.sound) == ((former,), False)
    pruned = await sync_acls(cluster, WANTED, TOPICS, prune=True)
    assert (set(pruned.removed), pruned.superfluous, pruned.sound) == ({harmless, former}, (), True)
    assert elsewhere in cluster.rights, "what is not the ledger's is left alone"


@pytest.mark.parametrize(
    "door",
    [
        Acl("User:*", "WRITE", "topic", "literal", "*"),
        Acl("User:till", "ALL", "topic", "prefixed", "led"),
        Acl("User:till", "ALTER_CONFIGS", "topic", "literal", "*"),
        Acl("User:till", "READ", "group", "literal", "*"),
        Acl("User:till", "READ", "group", "prefixed", ""),
    ],
)
async def test_an_open_door_that_reaches_beyond_the_ledger_is_named_and_never_removed(door: Acl) -> None:
    cluster = Cluster([*WANTED, door])
    report = await sync_acls(cluster, WANTED, TOPICS, prune=True)
    assert (report.wider, report.open_doors, report.sound) == ((door,), (door,), False)
    assert door in cluster.rights


async def test_a_right_from_one_host_is_not_the_wanted_one() -> None:
    from_one_host = WANTED[0]._replace(host="10.0.0.1")
    report = await check_acls(Cluster([*WANTED[1:], from_one_host]), WANTED, TOPICS)
    assert (report.missing, report.superfluous) == ((WANTED[0],), (from_one_host,))
