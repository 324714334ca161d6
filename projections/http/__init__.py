"""The HTTP side of the read models: what an app's service includes to answer queries."""

from projections.command_lag import KafkaCommandLogs
from projections.http.router import LEDGER_POSITION, create_query_router
from projections.queries import Queries

__all__ = ["LEDGER_POSITION", "KafkaCommandLogs", "Queries", "create_query_router"]
