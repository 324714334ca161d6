"""The servers that the environment names."""

from ledger.settings import Settings
from service.stack import Addresses


def named_addresses(settings: Settings) -> Addresses | None:
    """What the environment names; None where it names no Kafka, or no database at all."""
    urls = [
        settings.database(url)
        for url in (
            settings.database_url,
            settings.writer_database_url,
            settings.projector_database_url,
            settings.reader_database_url,
            settings.app_database_url,
        )
    ]
    if not settings.kafka_bootstrap_servers or not any(urls):
        return None
    owner, *others = urls
    return Addresses(settings.kafka_bootstrap_servers, owner or "", *others)
