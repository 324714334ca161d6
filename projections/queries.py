"""Everything that a service reads, opened and closed together."""

from types import TracebackType

from ledger.domain.position import Position
from ledger.sql_files import sql
from projections.balances.queries import BalanceReader
from projections.health import CommandLogs, HealthReader, KafkaProbe
from projections.read_pool import ReadPool
from projections.read_your_writes import AnsweredPositions
from projections.statements.queries import StatementReader


class Queries:
    """The readers of one service, over one pool of connections; `async with` opens it.

    A service passes the position of every write that it answers to `note_position`, so that its later reads show it.
    """

    def __init__(
        self,
        database_url: str,
        *,
        read_wait_s: float,
        kafka_probe: KafkaProbe,
        command_logs: CommandLogs | None = None,
    ) -> None:
        """Connects to nothing yet, and opens while Postgres is away.

        Args:
            database_url: of a role that may act as `ledger_reader`.
            read_wait_s: how long a read waits for its position before StaleReadError.
            kafka_probe: asks Kafka anything; raises when it does not answer.
            command_logs: what the command topics of apps hold, to tell how many commands wait.
        """
        self._pool = ReadPool(database_url)
        self.answered = AnsweredPositions()
        self.balances = BalanceReader(self._pool, self.answered, read_wait_s)
        self.statements = StatementReader(self._pool, self.answered, read_wait_s)
        self.health = HealthReader(self._pool, kafka_probe, command_logs)

    async def probe(self) -> None:
        """Ask Postgres anything. Raises StoreUnavailableError when it is away."""
        await self._pool.fetch(sql("ledger.event_store", "read_identity"))

    def note_position(self, position: Position, owner_id: str | None = None) -> None:
        """An answer carried this position. With the owner, other owners' reads do not wait for it."""
        self.answered.note_position(position, owner_id)

    async def __aenter__(self) -> "Queries":
        await self._pool.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._pool.stop()
