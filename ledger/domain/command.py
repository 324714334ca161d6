"""A command: a request of an app to change an account."""

from datetime import datetime
from uuid import UUID

import msgspec

from ledger.domain.limits import DEFAULT_CREDIT_TYPE


class Command(msgspec.Struct, frozen=True, gc=False):
    """One readable command, as an app sent it.

    `app` is the app whose topic carried it: no field of a message is believed on that. Times are in UTC. `metadata`
    is the JSON text as it was sent, because no parsed form gives back order, duplicates and numbers.
    """

    app: str
    command_id: UUID
    operation: str
    owner_id: str
    nonce: str
    issued_at: datetime
    amount: int | None = None
    credit_type: str = DEFAULT_CREDIT_TYPE
    not_after: datetime | None = None
    metadata: str | None = None
