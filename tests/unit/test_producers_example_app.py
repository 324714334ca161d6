"""What the example app makes of ledger events, without Kafka and Postgres."""

from apps.example_app.content import Content, ContentStore, LowBalanceNotice
from apps.example_app.reactions import Reactions
from consumers.subscriber import InMemoryEvents, LedgerSubscriber
from ledger.domain.position import Position
from ledger.operations import load_registry


class RememberingStore:
    """`ContentStore` as lists of what it was told."""

    def __init__(self) -> None:
        self.visible: list[tuple[str, str, Position]] = []
        self.discarded: list[tuple[str, str]] = []
        self.notices: list[LowBalanceNotice] = []

    async def keep_draft(self, content_id: str, owner_id: str, title: str, body: str) -> None:
        raise AssertionError("no event makes a draft")

    async def make_visible(self, content_id: str, owner_id: str, position: Position) -> None:
        self.visible.append((content_id, owner_id, position))

    async def discard_draft(self, content_id: str, owner_id: str) -> None:
        self.discarded.append((content_id, owner_id))

    async def find_visible(self, content_id: str) -> Content | None:
        raise AssertionError("no event reads")

    async def add_notice(self, notice: LowBalanceNotice) -> None:
        self.notices.append(notice)

    async def list_notices(self, owner_id: str) -> list[LowBalanceNotice]:
        raise AssertionError("no event reads")


def reacting() -> tuple[RememberingStore, InMemoryEvents]:
    store = RememberingStore()
    subscriber = LedgerSubscriber(
        app="example-app",
        group="test",
        kafka_bootstrap_servers="nowhere:1",
        on_failure="halt",
        start="beginning",
    )
    kept: ContentStore = store
    Reactions(kept).declare_on(subscriber, "example-app")
    return store, subscriber.in_memory()


async def test_content_becomes_visible_when_its_debit_was_posted() -> None:
    store, events = reacting()
    paid = events.chain.posted("ada", "CONTENT_CREATION", -5, metadata={"content_id": "c1"})
    await events.give(paid)
    assert store.visible == [("c1", "ada", paid.position)]


async def test_content_whose_debit_was_refused_is_dropped() -> None:
    store, events = reacting()
    await events.give(
        events.chain.rejected("ada", "CONTENT_CREATION", "INSUFFICIENT_CREDITS", metadata={"content_id": "c1"})
    )
    assert store.visible == []
    assert store.discarded == [("c1", "ada")]


async def test_other_events_make_nothing_visible() -> None:
    store, events = reacting()
    chain = events.chain
    await events.give(
        chain.posted("ada", "CREDIT_ADD", 100, metadata={"content_id": "c1"}),
        chain.posted("ada", "CONTENT_CREATION", -5, app="another-app", metadata={"content_id": "c2"}),
        chain.posted("ada", "CONTENT_CREATION", -5),
        chain.posted("ada", "CONTENT_CREATION", -5, metadata={"content_id": 5}),
        chain.posted("ada", "CONTENT_CREATION", -5, metadata={"other": "c3"}),
    )
    assert store.visible == []


async def test_one_notice_for_each_fall_below_the_cost_of_content() -> None:
    """Repeated alerts: an owner who is low already and spends on is not told again."""
    store, events = reacting()
    chain = events.chain
    await events.give(
        chain.posted("ada", "SIGNUP_CREDIT", 3),  # low, but rising
        chain.posted("ada", "CREDIT_ADD", 2),
        chain.posted("ada", "CREDIT_SPEND", -1, app="another-app"),  # 4: below
        chain.posted("ada", "CREDIT_SPEND", -1),  # 3: still below
        chain.posted("ada", "CREDIT_ADD", 10),
        chain.posted("ada", "CREDIT_SPEND", -8),  # 5: enough for one more
        chain.posted("ada", "CONTENT_CREATION", -5),  # 0: below
        chain.posted("bob", "CREDIT_ADD", 100, credit_type="gold"),
        chain.posted("bob", "CREDIT_SPEND", -99, credit_type="gold"),  # another kind of credits
    )
    assert [(notice.owner_id, notice.balance) for notice in store.notices] == [("ada", 4), ("ada", 0)]


async def test_an_event_that_comes_again_is_no_second_notice() -> None:
    store, events = reacting()
    added = events.chain.posted("ada", "CREDIT_ADD", 5)
    spent = events.chain.posted("ada", "CREDIT_SPEND", -1)
    await events.give(added, spent, added, spent)
    assert len(store.notices) == 1


def test_the_example_app_is_found_by_its_entry_point() -> None:
    rules = load_registry()["example-app"]
    assert rules.operations["CONTENT_CREATION"].default_amount == -5
    assert rules.operations["CONTENT_ACCESS"].default_amount == 0
