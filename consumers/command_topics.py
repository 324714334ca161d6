"""Which command topics are consumed: those of registered apps, of the right size. Topics that come, go or have a wrong
size never move the ownership of partitions."""

from collections.abc import Collection
from typing import Final

import structlog

from ledger.broker.protocol import BrokerUnavailableError, RecordReader
from ledger.messages.topics import Topics

log: Final = structlog.get_logger("ledger.consumer")


class TopicsNotReadyError(BrokerUnavailableError):
    """The ledger's own topics are missing or of another size: wait until they are made."""


class CommandTopics:
    """The topics that may be read now, refreshed every few seconds."""

    def __init__(self, reader: RecordReader, topics: Topics, apps: Collection[str], partitions: int) -> None:
        self._reader = reader
        self._topics = topics
        self._apps = apps
        self._partitions = partitions
        self._refused: frozenset[str] = frozenset()
        self.app_of: dict[str, str] = {}
        """App by topic."""

    async def refresh(self) -> bool:
        """Ask the cluster; whether the topics to be read have changed.

        Raises:
            TopicsNotReadyError: the topics that the ledger writes are not as they must be.
            BrokerUnavailableError: Kafka is away.
        """
        counts = await self._reader.partition_counts()
        for topic in (self._topics.events, self._topics.replays):
            if counts.get(topic) != self._partitions:
                raise TopicsNotReadyError(
                    f"{topic} has {counts.get(topic, 'no')} partitions instead of {self._partitions}; "
                    "run `ledger topics sync`"
                )
        right: dict[str, str] = {}
        refused: set[str] = set()
        for topic, count in counts.items():
            app = self._topics.app_of(topic)
            if app is None:
                continue
            if app not in self._apps:
                refused.add(f"{topic}: no such app is registered")
            elif count != self._partitions:
                refused.add(f"{topic}: has {count} partitions instead of {self._partitions}")
            else:
                right[topic] = app
        # A topic that this client has no right to see looks as if it were not there: nobody would notice otherwise.
        refused |= {
            f"{topic}: is not there, or Kafka does not let this client see it; run `ledger topics sync` (--acls)"
            for topic in map(self._topics.commands, self._apps)
            if topic not in counts
        }
        for text in sorted(refused - self._refused):
            log.error("topic refused; the others go on", topic=text)
        self._refused = frozenset(refused)
        changed = right != self.app_of
        self.app_of = right
        return changed
