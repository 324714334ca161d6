"""Which topics a ledger needs, and whether the cluster has them so."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ledger.broker.protocol import TopicAdmin, TopicSpec
from ledger.messages.topics import Topics

_HOUR_MS: Final = 3_600_000
COMMANDS_RETENTION_MS: Final = 7 * 24 * _HOUR_MS
REPLAYS_RETENTION_MS: Final = _HOUR_MS
FOR_EVER_MS: Final = -1


@dataclass(frozen=True, slots=True)
class WrongSize:
    """A topic with another number of partitions than the ledger's. It is refused, alone, while the others go on."""

    name: str
    wanted: int
    found: int

    def __str__(self) -> str:
        return f"{self.name} has {self.found} partitions instead of {self.wanted}"


@dataclass(frozen=True, slots=True)
class SyncReport:
    """The topics by name, each in one field, in the order of the specifications."""

    created: tuple[str, ...] = ()
    right: tuple[str, ...] = ()
    wrong_size: tuple[WrongSize, ...] = ()
    missing: tuple[str, ...] = ()
    unregistered: tuple[str, ...] = ()
    """Command topics under the prefix whose app is not registered: nobody consumes them."""

    @property
    def sound(self) -> bool:
        """Whether every wanted topic is there as it should be."""
        return not self.wrong_size and not self.missing


def wanted_topics(
    topics: Topics, apps: Collection[str], partitions: int, replication_factor: int, min_insync_replicas: int
) -> list[TopicSpec]:
    """The topics of a ledger with these apps (source: docs/reference.md)."""
    retentions = {topics.events: FOR_EVER_MS, topics.replays: REPLAYS_RETENTION_MS}
    for app in sorted(apps):
        retentions[topics.commands(app)] = COMMANDS_RETENTION_MS
        retentions[topics.parked(app)] = FOR_EVER_MS
    return [
        TopicSpec(name, partitions, replication_factor, retention_ms, min_insync_replicas)
        for name, retention_ms in retentions.items()
    ]


async def sync_topics(admin: TopicAdmin, specs: Sequence[TopicSpec], topics: Topics) -> SyncReport:
    """Create what is missing and report on all. What exists is never changed.

    Raises:
        BrokerUnavailableError: no broker answered.
        TopicCreationError: the cluster refuses a topic; the others were created.
    """
    there = await admin.partition_counts()
    absent = [spec for spec in specs if spec.name not in there]
    await admin.create(absent)
    return _report(specs, await admin.partition_counts(), topics, created=[spec.name for spec in absent])


async def check_topics(admin: TopicAdmin, specs: Sequence[TopicSpec], topics: Topics) -> SyncReport:
    """Report without creating anything. Raises BrokerUnavailableError."""
    return _report(specs, await admin.partition_counts(), topics, created=())


def _report(
    specs: Sequence[TopicSpec], counts: Mapping[str, int], topics: Topics, created: Collection[str]
) -> SyncReport:
    as_wanted = [spec.name for spec in specs if counts.get(spec.name) == spec.partitions]
    names = {spec.name for spec in specs}
    return SyncReport(
        created=tuple(name for name in as_wanted if name in created),
        right=tuple(name for name in as_wanted if name not in created),
        wrong_size=tuple(
            WrongSize(spec.name, spec.partitions, found)
            for spec in specs
            if (found := counts.get(spec.name)) is not None and found != spec.partitions
        ),
        missing=tuple(spec.name for spec in specs if spec.name not in counts),
        unregistered=tuple(sorted(name for name in counts if topics.app_of(name) is not None and name not in names)),
    )
