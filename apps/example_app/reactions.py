"""What the example app does when the ledger has decided: content becomes visible, and low credits are noticed.

Events come at least once, so each of these does nothing the second time.
"""

import json
import logging
from typing import Final

from apps.example_app.content import ContentStore, LowBalanceNotice
from consumers.subscriber import COMMAND_REJECTED, ENTRY_POSTED, LedgerSubscriber, RecordedEvent
from ledger.domain.limits import DEFAULT_CREDIT_TYPE

CONTENT_CREATION: Final = "CONTENT_CREATION"
CONTENT_COST_CREDITS: Final = 5
"""Below this balance an owner cannot create content: worth a notice."""

_log: Final = logging.getLogger(__name__)


class Reactions:
    """The app's handlers of ledger events."""

    def __init__(self, store: ContentStore) -> None:
        self._store = store

    def declare_on(self, subscriber: LedgerSubscriber, app: str) -> None:
        """Declare the handlers: content of this app's own commands, low balances whoever took the credits."""
        subscriber.on(ENTRY_POSTED, app=app, operation=CONTENT_CREATION)(self.show_paid_content)
        subscriber.on(COMMAND_REJECTED, app=app, operation=CONTENT_CREATION)(self.drop_unpaid_content)
        subscriber.on(ENTRY_POSTED, credit_type=DEFAULT_CREDIT_TYPE)(self.notice_low_balance)

    async def show_paid_content(self, event: RecordedEvent) -> None:
        """A debit for content was posted: from now on everybody can see it."""
        content_id = content_id_of(event)
        if content_id is not None:
            await self._store.make_visible(content_id, event.owner_id, event.position)

    async def drop_unpaid_content(self, event: RecordedEvent) -> None:
        """A debit for content was refused: nobody will ever see it."""
        content_id = content_id_of(event)
        if content_id is not None:
            await self._store.discard_draft(content_id, event.owner_id)

    async def notice_low_balance(self, event: RecordedEvent) -> None:
        """The balance fell below the cost of content by this very entry: so there is one notice per fall, however many
        debits follow."""
        balance_before = event.balance_after - event.amount
        if event.balance_after < CONTENT_COST_CREDITS <= balance_before:
            _log.info("low balance at %s: %s credits left", event.position, event.balance_after)
            await self._store.add_notice(
                LowBalanceNotice(event.owner_id, event.position, event.balance_after, event.occurred_at)
            )


def content_id_of(event: RecordedEvent) -> str | None:
    """The content that a command was about; None when another program than this one sent it."""
    if event.metadata is None:
        return None
    content_id = json.loads(bytes(event.metadata)).get("content_id")
    return content_id if isinstance(content_id, str) else None
