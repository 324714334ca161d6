"""Kafka's doors, on a broker that demands TLS, a login and rights: who must gets in, and nobody else."""

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import psutil
import pytest
import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, NoError, TopicAuthorizationFailedError, for_code

from consumers import away
from consumers.subscriber import LedgerSubscriber, RecordedEvent, RetryPolicy, TopicsNotReadyError, list_parked
from ledger.broker.acls import Acl, AclsRefusedError
from ledger.broker.kafka_acls import KafkaAclAdmin
from ledger.broker.kafka_admin import KafkaTopicAdmin
from ledger.broker.kafka_membership import KafkaMembership
from ledger.broker.kafka_publisher import KafkaPublisher
from ledger.broker.kafka_reader import KafkaRecordReader
from ledger.broker.kafka_servers import KafkaSecurity, KafkaServers
from ledger.broker.protocol import (
    AccessDeniedError,
    BrokerUnavailableError,
    OutgoingRecord,
    PublishError,
    TopicCreationError,
    TopicPartition,
    TopicSpec,
)
from ledger.messages.topics import Topics
from producers import KafkaUnavailable, LedgerClient, SyncLedgerClient, TopicUnusable
from projections.command_lag import KafkaCommandLogs
from service.stack.answering import kafka_answers
from tests.cli_process import ROOT
from tests.secured_kafka import CERTIFICATE_USER, OPERATOR, password_of
from tests.secured_ledger import SecuredLedger, ledger, rights_in, running, until

__all__ = ["ledger"]
pytestmark = pytest.mark.integration

APP = "example-app"


def new_owner() -> str:
    return f"owner-{uuid.uuid4().hex[:12]}"


# ---- who must gets in ----


async def test_every_part_of_the_ledger_works_as_a_principal_of_its_own(ledger: SecuredLedger) -> None:
    good, bad = new_owner(), new_owner()
    handled: list[RecordedEvent] = []
    subscriber = LedgerSubscriber(
        app=APP,
        group=f"{APP}.{uuid.uuid4().hex}",
        kafka_bootstrap_servers=ledger.kafka.address,
        on_failure="park",
        start="beginning",
        retries=RetryPolicy(attempts=1),
        security=ledger.kafka.login(APP),
    )

    @subscriber.on()
    async def handle(event: RecordedEvent) -> None:
        if event.owner_id == bad:
            raise ValueError("not this one")
        handled.append(event)

    consumer, projector = ledger.wiring("ledger").consumer(2), ledger.wiring("ledger-projector").projector()
    async with running(consumer, projector), subscriber:
        async with ledger.client(APP) as client:
            posted = await client.submit("CREDIT_ADD", good, "n-1", 30)
            await client.submit("CREDIT_ADD", bad, "n-1", 7)
            spent = await client.submit("CREDIT_SPEND", good, "n-2", -10)
            again = await client.submit("CREDIT_ADD", good, "n-1", 30, command_id=posted.event.command_id)
        assert (posted.balance, spent.balance, again.replayed) == (30, 20, True)

        await until(lambda: [event.amount for event in handled if event.owner_id == good] == [30, -10])
        await until(lambda: sum(one.parked_owners for one in subscriber.health) == 1)
        (parked,) = await list_parked(ledger.as_user(OPERATOR), APP, ledger.topics, owner_id=bad)
        assert [event.amount for event in parked.events] == [7]

        shown = await ledger.cli("balance", good, "--min-position", str(spent.position), "--json")
        assert shown.document["balance"] == 20, shown.err
        logs = await KafkaCommandLogs(ledger.kafka.address, ledger.topics, ledger.kafka.login(APP))([APP, "till"])
        assert {log.app for log in logs} == {APP}, "an app sees no other app's commands, not even how many there are"
        status = await ledger.cli("status", "--json")
        assert status.code == 0, status.out


async def test_the_command_line_publishes_as_the_operator(ledger: SecuredLedger) -> None:
    owner = new_owner()
    async with running(ledger.wiring("ledger").consumer(2)):
        posted = await ledger.cli("publish", "CREDIT_ADD", owner, "--amount", "12", "--json")
    assert posted.code == 0, posted.err
    assert posted.document["balance_after"] == 12
    parked = await ledger.cli("parked", "list", "--app", APP, "--json")
    assert parked.code == 0, parked.err


def test_the_client_for_scripts_is_let_in(ledger: SecuredLedger) -> None:
    with SyncLedgerClient(APP, ledger.kafka.address, security=ledger.kafka.login(APP)) as client:
        assert client.publish("CREDIT_ADD", new_owner(), "n-1").topic == ledger.topics.commands(APP)


async def test_the_example_of_the_guide_is_let_in(ledger: SecuredLedger) -> None:
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "docs/examples/with_login.py", new_owner()),
        cwd=ROOT,
        env=ledger.environment(APP),
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        printed, _ = await program.communicate()
    assert printed.decode() == "published to ledger.commands.example-app\n"


async def test_a_certificate_of_the_client_is_a_login_too(ledger: SecuredLedger) -> None:
    right = Acl(f"User:{CERTIFICATE_USER}", "DESCRIBE", "topic", "literal", ledger.topics.events)
    servers = KafkaServers(
        ledger.kafka.certificate_address,
        KafkaSecurity(protocol="SSL", ca_file=ledger.kafka.ca_file, certificate_file=ledger.kafka.client_file),
    )
    async with KafkaAclAdmin(ledger.as_user(OPERATOR)) as rights:
        await rights.allow([right])
        try:
            async with KafkaTopicAdmin(servers) as admin:
                assert list(await admin.partition_counts()) == [ledger.topics.events]
        finally:
            await rights.withdraw([right])


# ---- who must not stays out: the login ----


def wrong_logins(ledger: SecuredLedger) -> dict[str, tuple[KafkaServers, str]]:
    """By name: how somebody tries to get in, and what the error must tell them to correct."""
    kafka, login = ledger.kafka, ledger.kafka.login
    files: dict[str, Any] = {"ca_file": kafka.ca_file}
    user: dict[str, Any] = {"username": "ledger", "password": password_of("ledger")}
    servers = {
        "no login, in the clear": (KafkaSecurity(), "LEDGER_KAFKA_SECURITY_PROTOCOL"),
        "no login": (KafkaSecurity(protocol="SSL", **files), "LEDGER_KAFKA_SECURITY_PROTOCOL"),
        "login in the clear": (KafkaSecurity(protocol="SASL_PLAINTEXT", **user), "LEDGER_KAFKA_SECURITY_PROTOCOL"),
        "wrong password": (login("ledger", "wrong"), "LEDGER_KAFKA_PASSWORD"),
        "unknown user": (login("nobody"), "LEDGER_KAFKA_USERNAME"),
        "other mechanism": (
            KafkaSecurity(protocol="SASL_SSL", mechanism="SCRAM-SHA-256", **user, **files),
            "LEDGER_KAFKA_SASL_MECHANISM",
        ),
        "foreign authority": (
            KafkaSecurity(protocol="SASL_SSL", ca_file=kafka.foreign_ca_file, **user),
            "LEDGER_KAFKA_CA_FILE",
        ),
        "the machine's authorities": (KafkaSecurity(protocol="SASL_SSL", **user), "LEDGER_KAFKA_CA_FILE"),
    }
    tries = {name: (KafkaServers(kafka.address, security), told) for name, (security, told) in servers.items()}
    numbers = kafka.address.replace("localhost", "127.0.0.1")
    tries["other name"] = (KafkaServers(numbers, login("ledger")), "LEDGER_KAFKA_BOOTSTRAP_SERVERS")
    uncertified = KafkaSecurity(protocol="SSL", **files)
    tries["no certificate"] = (KafkaServers(kafka.certificate_address, uncertified), "LEDGER_KAFKA_SECURITY_PROTOCOL")
    return tries


async def test_whoever_cannot_show_who_they_are_is_told_what_to_correct(ledger: SecuredLedger) -> None:
    for name, (servers, told) in wrong_logins(ledger).items():
        with pytest.raises(AccessDeniedError, match=told) as refused:
            await KafkaRecordReader(servers).start()
        assert servers.bootstrap_servers in str(refused.value), name
        assert "hush-" not in f"{refused.value!r}", name


OPENERS: dict[str, Callable[[KafkaServers], Awaitable[object]]] = {
    "reader": lambda kafka: KafkaRecordReader(kafka).start(),
    "publisher": lambda kafka: KafkaPublisher(kafka).start(),
    "admin": lambda kafka: KafkaTopicAdmin(kafka).start(),
    "rights": lambda kafka: KafkaAclAdmin(kafka).__aenter__(),
    "member": lambda kafka: KafkaMembership(kafka, "ledger.consumers", "ledger.events").start(),
    "client": lambda kafka: LedgerClient(APP, kafka.bootstrap_servers, security=kafka.security).__aenter__(),
    "subscriber": lambda kafka: LedgerSubscriber(
        app=APP,
        group=f"{APP}.x",
        kafka_bootstrap_servers=kafka.bootstrap_servers,
        on_failure="halt",
        start="now",
        security=kafka.security,
    ).start(),
    "parked": lambda kafka: list_parked(kafka, APP, Topics()),
    "command logs": lambda kafka: KafkaCommandLogs(kafka.bootstrap_servers, Topics(), kafka.security)([APP]),
}


@pytest.mark.parametrize("opener", OPENERS)
async def test_no_client_gets_in_with_a_wrong_password(ledger: SecuredLedger, opener: str) -> None:
    wrong = KafkaServers(ledger.kafka.address, ledger.kafka.login("ledger", "wrong"))
    with pytest.raises((AccessDeniedError, KafkaUnavailable), match="refuses the login of ledger") as refused:
        await OPENERS[opener](wrong)
    assert "wrong" not in str(refused.value)


async def test_servers_named_by_their_owner_are_asked_with_a_login(ledger: SecuredLedger) -> None:
    assert await kafka_answers(ledger.as_user("till")) is None
    wrong = await kafka_answers(KafkaServers(ledger.kafka.address, ledger.kafka.login("till", "wrong")))
    assert wrong is not None
    assert "LEDGER_KAFKA_PASSWORD" in wrong


async def test_a_consumer_that_is_not_let_in_goes_on_saying_so_and_trying(
    ledger: SecuredLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(away, "SAY_AWAY_AGAIN_S", 0.1)
    consumer = ledger.wiring("ledger", "wrong").consumer(2)
    with structlog.testing.capture_logs() as logs:
        async with running(consumer):
            await until(lambda: sum("LEDGER_KAFKA_PASSWORD" in str(entry.get("error")) for entry in logs) > 1)
    assert "hush-" not in str(logs)


async def test_a_command_of_the_command_line_that_is_not_let_in_says_what_to_correct(ledger: SecuredLedger) -> None:
    ended = await ledger.cli("topics", "check", LEDGER_KAFKA_PASSWORD="wrong")
    assert ended.code == 3
    assert "refuses the login" in ended.err
    without = await ledger.cli("topics", "check", LEDGER_KAFKA_PASSWORD="")
    assert without.code == 2
    assert "set LEDGER_KAFKA_PASSWORD" in without.err


# ---- who must not stays out: the rights ----

FORBIDDEN = [
    ("till", "ledger.commands.example-app"),
    ("till", "ledger.parked.example-app"),
    ("till", "ledger.events"),
    ("till", "ledger.replays"),
    (APP, "ledger.commands.till"),
    (APP, "ledger.events"),
    (APP, "ledger.replays"),
    ("ledger-projector", "ledger.events"),
    ("ledger-projector", "ledger.replays"),
    ("ledger-projector", "ledger.commands.till"),
    ("ledger", "ledger.commands.till"),
    ("ledger", "ledger.parked.till"),
]


async def test_nobody_writes_a_topic_that_is_not_theirs(ledger: SecuredLedger) -> None:
    reader = KafkaRecordReader(ledger.as_user(OPERATOR))
    await reader.start()
    for user, topic in FORBIDDEN:
        before = await reader.bounds([TopicPartition(topic, 0)])
        async with raw_producer(ledger.as_user(user)) as producer:
            with pytest.raises(TopicAuthorizationFailedError):
                await producer.send_and_wait(topic, b"{}", key=b"k", partition=0)
        assert await reader.bounds([TopicPartition(topic, 0)]) == before, (user, topic)
    await reader.stop()


@asynccontextmanager
async def raw_producer(kafka: KafkaServers) -> AsyncIterator[AIOKafkaProducer]:
    """What a thief has: no checks of ours."""
    async with AIOKafkaProducer(**kafka.client_settings(), enable_idempotence=False) as producer:
        yield producer


async def test_a_publisher_names_the_right_that_is_missing(ledger: SecuredLedger) -> None:
    publisher = KafkaPublisher(ledger.as_user("till"))
    await publisher.start()
    with pytest.raises(PublishError, match=r"not let User:till WRITE topic ledger\.events.*--acls"):
        await publisher.publish(ledger.topics.events, 0, [OutgoingRecord(b"k", b"{}")])
    await publisher.stop()
    with pytest.raises(AccessDeniedError, match="not let User:ledger-projector WRITE any topic"):
        await KafkaPublisher(ledger.as_user("ledger-projector")).start()


async def test_a_stranger_with_a_login_sees_and_does_nothing(ledger: SecuredLedger) -> None:
    async with KafkaTopicAdmin(ledger.as_user("stranger")) as admin:
        assert await admin.partition_counts() == {}
        with pytest.raises(TopicCreationError, match="not let User:stranger CREATE topic ledger"):
            await admin.create([TopicSpec("ledger.commands.stranger", 2, 1, 1000)])
    with pytest.raises(BrokerUnavailableError):
        await KafkaPublisher(ledger.as_user("stranger")).start()
    with pytest.raises(TopicUnusable, match="--acls"):
        async with ledger.client("till", user="stranger"):
            pass
    reader = KafkaRecordReader(ledger.as_user("stranger"))
    await reader.start()
    place = TopicPartition(ledger.topics.events, 0)
    with pytest.raises(AccessDeniedError, match=r"User:stranger DESCRIBE topic ledger\.events"):
        await reader.bounds([place])
    reader.assign({place: 0})
    with pytest.raises(BrokerUnavailableError, match=r"User:stranger READ topic ledger\.events"):
        await asyncio.wait_for(_poll_until_it_fails(reader), 10)
    await reader.stop()


async def _poll_until_it_fails(reader: KafkaRecordReader) -> None:
    while True:
        await reader.poll(10, 0.1)


async def test_an_app_reads_no_commands(ledger: SecuredLedger) -> None:
    reader = KafkaRecordReader(ledger.as_user("till"))
    await reader.start()
    reader.assign({TopicPartition(ledger.topics.commands("till"), 0): 0})
    with pytest.raises(BrokerUnavailableError, match=r"User:till READ topic ledger\.commands\.till"):
        await asyncio.wait_for(_poll_until_it_fails(reader), 10)
    await reader.stop()


@pytest.mark.parametrize("group", ["ledger.consumers", "ledger.projections", "ledger.example-app.content"])
async def test_nobody_joins_a_group_that_is_not_theirs(
    ledger: SecuredLedger, group: str, caplog: pytest.LogCaptureFixture
) -> None:
    member = KafkaMembership(ledger.as_user("till"), group, ledger.topics.events)
    await member.start()
    try:
        await until(lambda: f"not let User:till READ group {group}" in caplog.text)
        assert member.wanted is None
    finally:
        await member.stop()


@pytest.mark.parametrize("user", [APP, "till", "ledger", "ledger-projector"])
async def test_nobody_deletes_or_alters_a_topic(ledger: SecuredLedger, user: str) -> None:
    topics = [ledger.topics.events, ledger.topics.commands(APP), ledger.topics.commands("till")]
    admin = AIOKafkaAdminClient(**ledger.as_user(user).client_settings())
    await admin.start()
    try:
        for topic in topics:
            deleted: Any = await admin.delete_topics([topic])
            assert [for_code(code) for _, code, *_ in deleted.topic_error_codes] != [NoError]
            shorter = ConfigResource(ConfigResourceType.TOPIC, topic, {"retention.ms": "1"})
            altered: Any = await admin.alter_configs([shorter])
            assert [for_code(one[0]) for each in altered for one in each.resources] == [TopicAuthorizationFailedError]
            with pytest.raises(KafkaError):
                await admin.create_partitions({topic: NewPartitions(total_count=9)})
    finally:
        await admin.close()
    async with KafkaTopicAdmin(ledger.as_user(OPERATOR)) as counted:
        counts = await counted.partition_counts()
    assert {counts[topic] for topic in topics} == {2}


async def test_a_subscriber_is_held_to_its_own_app(ledger: SecuredLedger) -> None:
    subscriber = LedgerSubscriber(
        app=APP,
        group="till.x",
        kafka_bootstrap_servers=ledger.kafka.address,
        on_failure="halt",
        start="now",
        security=ledger.kafka.login("till"),
    )
    with pytest.raises(TopicsNotReadyError, match="does not let User:till see it"):
        await subscriber.start()


async def test_a_subscriber_under_a_name_that_is_not_its_apps_is_told_so(ledger: SecuredLedger) -> None:
    subscriber = LedgerSubscriber(
        app="till",
        group="other.group",
        kafka_bootstrap_servers=ledger.kafka.address,
        on_failure="halt",
        start="now",
        security=ledger.kafka.login("till"),
    )
    with pytest.raises(AccessDeniedError, match=r"not let User:till READ group other\.group"):
        await subscriber.start()


async def test_a_consumer_that_may_not_see_an_apps_commands_says_so(ledger: SecuredLedger) -> None:
    right = Acl("User:ledger", "READ", "topic", "prefixed", ledger.topics.commands(""))
    async with KafkaAclAdmin(ledger.as_user(OPERATOR)) as rights:
        await rights.withdraw([right])
        try:
            with structlog.testing.capture_logs() as logs:
                async with running(ledger.wiring("ledger").consumer(2)):
                    await until(
                        lambda: any(
                            str(entry.get("topic")).startswith("ledger.commands.till: is not") for entry in logs
                        )
                    )
        finally:
            await rights.allow([right])


# ---- giving the rights ----


async def test_rights_are_given_once_checked_and_pruned(ledger: SecuredLedger) -> None:
    given = rights_in(ledger.synced, "added")
    assert ("User:till", "WRITE", "ledger.commands.till") in given
    assert [name for _, right, name in given if right == "WRITE" and name == "ledger.events"] == ["ledger.events"]
    again = await ledger.cli("topics", "sync", "--acls", "--json")
    assert (again.code, rights_in(again, "added"), rights_in(again, "right")) == (0, set(), given)

    door = Acl("User:till", "WRITE", "topic", "literal", ledger.topics.events)
    taken = Acl("User:till", "WRITE", "topic", "literal", ledger.topics.commands("till"))
    async with KafkaAclAdmin(ledger.as_user(OPERATOR)) as rights:
        await rights.allow([door])
        await rights.withdraw([taken])
    checked = await ledger.cli("topics", "check", "--acls")
    assert checked.code == 1
    assert "AN OPEN DOOR" in checked.out
    assert "missing: run `ledger topics sync --acls`" in checked.out
    dry = await ledger.cli("topics", "sync", "--acls", "--prune", "--dry-run", "--json")
    assert (dry.code, rights_in(dry, "added"), rights_in(dry, "missing")) == (
        1,
        set(),
        {("User:till", "WRITE", ledger.topics.commands("till"))},
    )
    pruned = await ledger.cli("topics", "sync", "--acls", "--prune", "--json")
    assert pruned.code == 0
    assert rights_in(pruned, "removed") == {("User:till", "WRITE", ledger.topics.events)}
    assert rights_in(pruned, "added") == {("User:till", "WRITE", ledger.topics.commands("till"))}


async def test_only_the_operator_gives_rights(ledger: SecuredLedger) -> None:
    async with KafkaAclAdmin(ledger.as_user("till")) as rights:
        with pytest.raises(AclsRefusedError, match=r"User:till DESCRIBE the cluster.*super\.users"):
            await rights.allowed()
        with pytest.raises(AclsRefusedError, match=r"User:till ALTER the cluster.*super\.users"):
            await rights.allow([Acl("User:till", "WRITE", "topic", "literal", ledger.topics.events)])


async def test_brokers_that_let_everybody_do_everything_are_named(kafka_bootstrap: str) -> None:
    async with KafkaAclAdmin(kafka_bootstrap) as rights:
        with pytest.raises(AclsRefusedError, match=r"authorizer\.class\.name"):
            await rights.allowed()


# ---- no password where others look ----


async def test_the_password_stands_in_no_list_of_processes(ledger: SecuredLedger) -> None:
    with ledger.process("ledger", "run", "consumer") as log_file:
        await until(lambda: "claimed" in log_file.read_text())
        assert all("hush-" not in " ".join(_command_line(one)) for one in psutil.process_iter())


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
