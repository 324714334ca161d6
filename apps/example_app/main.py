"""The example app as a server runs it: `uvicorn apps.example_app.main:app`, or `ledger run http`."""

from apps.example_app.application import create_app
from ledger.operations import load_registry
from ledger.settings import Settings
from producers.doors import DoorPolicy

settings = Settings()
reader_url = settings.database(settings.reader_database_url or settings.database_url)
app_url = settings.database(settings.app_database_url or settings.database_url)
if settings.kafka_bootstrap_servers is None or reader_url is None or app_url is None:
    raise SystemExit(
        "The example app needs Kafka and Postgres: set LEDGER_KAFKA_BOOTSTRAP_SERVERS, LEDGER_READER_DATABASE_URL and "
        "LEDGER_APP_DATABASE_URL (or LEDGER_DATABASE_URL for both), or start everything by `ledger up`."
    )
registry = load_registry(settings.apps)
if settings.service_app not in registry:
    raise SystemExit(f"No app {settings.service_app!r} is registered (LEDGER_SERVICE_APP); see `ledger apps`.")

app = create_app(
    app=settings.service_app,
    rules={app: rules.operations for app, rules in registry.items()},
    kafka_bootstrap_servers=settings.kafka_bootstrap_servers,
    reader_database_url=reader_url,
    app_database_url=app_url,
    topic_prefix=settings.topic_prefix,
    outcome_wait_s=settings.outcome_wait_s,
    read_wait_s=settings.read_wait_s,
    kafka_security=settings.kafka_security(),
    doors=DoorPolicy(settings.http_keys, settings.http_rate_per_s, settings.http_burst),
    under_way_max=settings.http_under_way_max,
)
