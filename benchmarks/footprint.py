"""What the ledger takes on disk: tables, indexes, the write-ahead log, and Kafka's logs."""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.commands import APP
from benchmarks.fresh_ledger import FreshLedger


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes, by what they are."""

    bytes_by_name: dict[str, int]

    def per_event_since(self, before: "Footprint", events: int) -> dict[str, float]:
        """Bytes for each event since another look."""
        return {name: (size - before.bytes_by_name[name]) / events for name, size in self.bytes_by_name.items()}


async def measure_footprint(ledger: FreshLedger) -> Footprint:
    """Look at one ledger. The write-ahead log is the whole server's: nothing else may write meanwhile.

    Of record (`ledger`) and read models (`projections`) tables and indexes; of Kafka the topics of commands and of
    events, where the broker's files can be seen.
    """
    sizes = {row["name"]: int(row["bytes"]) for row in await ledger.rows("footprint")}
    data = ledger.servers.home / "kafka" / "data"
    if data.is_dir():
        sizes["kafka_commands"] = _log_bytes(data, ledger.topics.commands(APP))
        sizes["kafka_events"] = _log_bytes(data, ledger.topics.events)
    return Footprint(sizes)


def _log_bytes(data: Path, topic: str) -> int:
    # Only what was written: indexes are made at their full size beforehand.
    return sum(path.stat().st_size for path in data.glob(f"{topic}-[0-9]*/*.log"))
