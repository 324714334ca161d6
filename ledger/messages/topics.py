"""The names of the topics (source: docs/reference.md)."""

import re
from dataclasses import dataclass

from ledger.domain.limits import APP_PATTERN


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one ledger. Several ledgers can share a Kafka cluster under different prefixes."""

    prefix: str = "ledger"

    @property
    def events(self) -> str:
        """Every event, each at least once, in sequence order."""
        return f"{self.prefix}.events"

    @property
    def replays(self) -> str:
        """First events given again to whoever sent a command again."""
        return f"{self.prefix}.replays"

    def commands(self, app: str) -> str:
        """The commands of one app. The topic is the app's identity."""
        return f"{self.prefix}.commands.{app}"

    def parked(self, app: str) -> str:
        """Events that the app's subscriber parked, and the markers that release an owner."""
        return f"{self.prefix}.parked.{app}"

    def app_of(self, topic: str) -> str | None:
        """The app whose command topic this is, or None when it is no command topic."""
        start = f"{self.prefix}.commands."
        app = topic.removeprefix(start)
        return app if topic.startswith(start) and re.fullmatch(APP_PATTERN, app) else None

    @property
    def consumer_group(self) -> str:
        """The group whose members share the partition numbers among ledger consumers."""
        return f"{self.prefix}.consumers"

    def projection_group(self) -> str:
        """The group whose members share the partitions among projection workers."""
        return f"{self.prefix}.projections"
