"""The example app, wired: its client, the queries, the reactions to ledger events, and the routes of all three."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from fastapi import FastAPI
from fastapi.responses import RedirectResponse

from apps.example_app.postgres_content import PostgresContentStore
from apps.example_app.reactions import Reactions
from apps.example_app.routes import example_router
from apps.example_app.subscription import subscribed
from consumers.subscriber import LedgerSubscriber
from ledger.domain.rules import OperationRule
from producers import KafkaSecurity, LedgerClient
from producers.answers_by_app import AnswersByApp, ClientWhenNeeded
from producers.command_lookup import PostgresCommandLookup
from producers.command_status import command_status_router
from producers.doors import (
    Doorkeeper,
    DoorPolicy,
    KeyRing,
    PostgresDoorKeys,
    RequestLimits,
    charge,
    document_doors,
    is_stranger,
)
from producers.http_answers import HttpAnswers, Submitter
from producers.http_router import command_router
from producers.record_probe import RecordProbe
from projections.http import KafkaCommandLogs, Queries, create_query_router

DESCRIPTION: Final = """
Credits for many apps, kept in one ledger. Every write becomes a **command** in Kafka, is decided once, recorded for
ever, and shows in the balance.

Try it, in this order:

1. `POST /signup?owner_id=ada`: three credits. Again: 400, because a nonce counts once.
2. `POST /ledger` with `{"operation": "CREDIT_ADD", "owner_id": "ada", "nonce": "top-up-1", "amount": 20}`.
3. `POST /content?owner_id=ada` with `{"title": "On analytical engines"}`: five credits less.
4. `GET /content/{content_id}`: visible as soon as the debit is in the ledger's events.
5. `GET /balance/ada` and `GET /ledger/ada/entries`.

**Amounts are signed**: a spend is negative. **A nonce** is the app's own key of a business action, accepted once per
owner. **An `Idempotency-Key`** makes a retry of a request safe. **A position** (`partition:sequence`) names an event;
a read on this service always shows what this service has answered before.
"""


def create_app(
    *,
    app: str,
    rules: Mapping[str, Mapping[str, OperationRule]],
    kafka_bootstrap_servers: str,
    reader_database_url: str,
    app_database_url: str,
    topic_prefix: str,
    outcome_wait_s: float,
    read_wait_s: float,
    doors: DoorPolicy,
    under_way_max: int,
    kafka_security: KafkaSecurity | None = None,
) -> FastAPI:
    """Wire the app; it connects when it is started.

    Args:
        app: the app whose own routes these are, and as which commands are published while there are no API keys.
        rules: all registered apps and their operations: an API key can be one of any of them.
        kafka_bootstrap_servers: `host:port[,host:port]`.
        reader_database_url: of a login that may act as `ledger_reader`.
        app_database_url: of a login that owns the app's own schema, or may make it.
        topic_prefix: first part of the ledger's topic names.
        outcome_wait_s: how long a write waits for its outcome before it answers 202.
        read_wait_s: how long a read waits for what was answered before it answers 503.
        kafka_security: how Kafka is spoken to, and as whom; None: it asks for nothing.
        doors: who must show an API key, and how much one key may do.
        under_way_max: requests that are worked on at a time.
    """
    security = kafka_security or KafkaSecurity()
    client = LedgerClient(app, kafka_bootstrap_servers, security=security, topic_prefix=topic_prefix)
    queries = Queries(
        reader_database_url,
        read_wait_s=read_wait_s,
        kafka_probe=client.probe_kafka,
        command_logs=KafkaCommandLogs(kafka_bootstrap_servers, client.topics, security),
    )
    lookup = PostgresCommandLookup(reader_database_url)
    store = PostgresContentStore(app_database_url)
    reactions = Reactions(store)

    def new_subscriber() -> LedgerSubscriber:
        # Halt rather than park: these handlers fail only while Postgres is away, and then for every owner.
        subscriber = LedgerSubscriber(
            app=app,
            group=f"{topic_prefix}.{app}.content",  # two ledgers can share a Kafka cluster
            kafka_bootstrap_servers=kafka_bootstrap_servers,
            on_failure="halt",
            start="beginning",
            topics=client.topics,
            security=security,
        )
        reactions.declare_on(subscriber, app)
        return subscriber

    probe = RecordProbe(queries.probe)
    answers = HttpAnswers(client, queries.note_position, outcome_wait_s, rules[app], probe.trouble)
    clients_of_others = AsyncExitStack()

    def submitter(other: str) -> Submitter:
        new_client = LedgerClient(other, kafka_bootstrap_servers, security=security, topic_prefix=topic_prefix)
        return ClientWhenNeeded(other, lambda: clients_of_others.enter_async_context(new_client))

    answers_by_app = AnswersByApp(answers, rules, submitter)
    ring = KeyRing(PostgresDoorKeys(reader_database_url), open_to=doors.open_to)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with ring, queries, lookup, store, client, clients_of_others, subscribed(new_subscriber):
            await client.follow_outcomes()
            yield

    service = FastAPI(title="Ledger, served by the example app", description=DESCRIPTION, lifespan=lifespan)
    # The last one added is asked first: a stranger takes no place among the requests under way.
    service.add_middleware(RequestLimits, under_way_max=under_way_max)
    service.add_middleware(Doorkeeper, ring=ring, policy=doors)
    document_doors(service, ring, doors)
    # Before the routes with a path as owner id, which would take some of these for their own.
    service.include_router(example_router(answers, store))
    service.include_router(command_status_router(app, client.topics, lookup))
    service.include_router(command_router(answers_by_app))
    service.include_router(
        create_query_router(
            queries, lambda request: is_stranger(request.scope), lambda request, count: charge(request.scope, count)
        )
    )

    @service.get("/", include_in_schema=False)
    async def to_documentation() -> RedirectResponse:
        return RedirectResponse("/docs")

    return service
