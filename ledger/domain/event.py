"""Events: what was decided about a command (`NewEvent`), and what was recorded (`RecordedEvent`)."""

from datetime import datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

import msgspec

from ledger.domain.position import Position
from ledger.domain.rejection import Reason

ENTRY_POSTED: Final = "entry_posted"
COMMAND_REJECTED: Final = "command_rejected"

# msgspec decodes a field of type Raw as it is, but takes `Raw | None` for one that can only be null.
if TYPE_CHECKING:
    RawOrNone = msgspec.Raw | None
else:
    RawOrNone = msgspec.Raw


class NewEvent(msgspec.Struct, frozen=True, gc=False):
    """A decision that is not yet recorded. `reason` is None for an accepted command.

    `amount` is what the account moves by: 0 for a rejection, so that balance_after = balance before + amount always.
    """

    account_version: int
    amount: int
    balance_after: int
    reason: Reason | None = None
    detail: str | None = None


class RecordedEvent(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One event as it was recorded, and as `ledger.events` carries it (fields in the order of the message).

    `account_version` counts the accepted entries of the account; a rejection repeats it. `occurred_at` never goes back
    within a partition. `metadata` is the JSON text that was sent. `prev_hash` and `hash` are 64 hexadecimal digits.
    `type` and `reason` are text, not enumerations: a reader must not break on a name that is newer than itself.
    """

    type: str
    partition: int
    sequence: int
    app: str
    command_id: UUID
    operation: str
    owner_id: str
    credit_type: str
    account_version: int
    amount: int
    balance_after: int
    nonce: str
    issued_at: datetime
    occurred_at: datetime
    prev_hash: str
    hash: str
    metadata: RawOrNone = None
    reason: str | None = None
    detail: str | None = None

    @property
    def position(self) -> Position:
        """The event's place."""
        return Position(self.partition, self.sequence)

    @property
    def accepted(self) -> bool:
        """Whether the account was changed: `entry_posted`."""
        return self.reason is None
