"""A read model equals the fold of the events up to its checkpoint (invariant 9), however they were cut into batches."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from ledger.domain.account import EMPTY_ACCOUNT, Account
from ledger.domain.decider import evolve
from ledger.domain.event import COMMAND_REJECTED, ENTRY_POSTED, RecordedEvent
from projections.balances.fold import AccountId, last_entries
from projections.feed import Feed, FeedKey, follow, seen_otherwise
from projections.statements.fold import COLUMNS, lines

BEGAN = datetime(2026, 1, 31, tzinfo=UTC)
GENESIS = "0" * 64

commands = st.lists(
    st.tuples(st.sampled_from(["ada", "bob", "eve"]), st.sampled_from(["credits", "gems"]), st.integers(-5, 5)),
    max_size=40,
)


def history(decided: list[tuple[str, str, int]]) -> list[RecordedEvent]:
    """What a ledger would record; debits without cover are rejected."""
    accounts: dict[AccountId, Account] = {}
    events: list[RecordedEvent] = []
    for sequence, (owner, credit_type, amount) in enumerate(decided, 1):
        account = accounts.get((owner, credit_type), EMPTY_ACCOUNT)
        accepted = account.balance + amount >= 0
        event = RecordedEvent(
            type=ENTRY_POSTED if accepted else COMMAND_REJECTED,
            partition=0,
            sequence=sequence,
            app="example-app",
            command_id=UUID(int=sequence),
            operation="CREDIT_ADD",
            owner_id=owner,
            credit_type=credit_type,
            account_version=account.version + accepted,
            amount=amount if accepted else 0,
            balance_after=account.balance + (amount if accepted else 0),
            nonce=str(sequence),
            issued_at=BEGAN,
            occurred_at=BEGAN + timedelta(seconds=sequence),
            prev_hash=events[-1].hash if events else GENESIS,
            hash=f"{sequence:064x}",
            reason=None if accepted else "INSUFFICIENT_CREDITS",
        )
        accounts[owner, credit_type] = evolve(account, event)
        events.append(event)
    return events


@given(commands, st.lists(st.integers(1, 7), max_size=20))
def test_balances_equal_the_fold_in_any_batches(decided: list[tuple[str, str, int]], sizes: list[int]) -> None:
    events = history(decided)
    table: dict[AccountId, Account] = {}
    rest = events
    for size in [*sizes, len(events)]:
        batch, rest = rest[:size], rest[size:]
        for account_id, event in last_entries(batch).items():
            # As the upsert does: a version that does not rise is refused.
            assert event.account_version > table.get(account_id, EMPTY_ACCOUNT).version
            table[account_id] = Account(event.balance_after, event.account_version)
    expected: dict[AccountId, Account] = {}
    for event in events:
        account_id = (event.owner_id, event.credit_type)
        folded = evolve(expected.get(account_id, EMPTY_ACCOUNT), event)
        if folded.version:
            expected[account_id] = folded
    assert table == expected


@given(commands)
def test_statements_have_a_line_for_every_event(decided: list[tuple[str, str, int]]) -> None:
    events = history(decided)
    rows = [dict(zip(COLUMNS, line, strict=True)) for line in lines(events)]
    assert [[row[name] for name in COLUMNS] for row in rows] == [
        [getattr(event, name) for name in COLUMNS] for event in events
    ]


@given(commands.filter(bool), st.data())
def test_at_least_once_arrivals_are_followed_exactly_once(
    decided: list[tuple[str, str, int]], data: st.DataObject
) -> None:
    """Publications go back to an older event now and then, and go on from there: nothing is lost, doubled, or halts."""
    events = history(decided)
    arrivals: list[RecordedEvent] = []
    reached = 0
    while reached < len(events):
        start = data.draw(st.integers(0, reached))
        end = data.draw(st.integers(reached + 1, len(events)))
        arrivals += events[start:end]
        reached = end
    feed = Feed(FeedKey("balances", 1, 0), 1, 0, GENESIS, 0)
    taken: list[RecordedEvent] = []
    recorded = {event.sequence: event.hash for event in events}
    while arrivals:
        size = data.draw(st.integers(1, len(arrivals)))
        batch, arrivals = arrivals[:size], arrivals[size:]
        followed = follow(feed.sequence, feed.hash, batch)
        assert followed.conflict is None
        assert followed.gap_before is None
        assert seen_otherwise(feed, followed, recorded) is None
        taken += followed.new
        if followed.new:
            feed.sequence, feed.hash, feed.recent = taken[-1].sequence, taken[-1].hash, followed.new
    assert taken == events


@given(commands.filter(lambda decided: len(decided) > 1), st.data())
def test_an_event_of_another_history_never_passes(decided: list[tuple[str, str, int]], data: st.DataObject) -> None:
    events = history(decided)
    place = data.draw(st.integers(0, len(events) - 2))
    other = RecordedEvent(
        **{name: getattr(events[place], name) for name in RecordedEvent.__struct_fields__} | {"hash": "f" * 64}
    )
    arrivals = [*events[:place], other, *events[place + 1 :]]
    followed = follow(0, GENESIS, arrivals)
    assert followed.conflict is not None
    assert followed.looked_at == place + 1
    assert "not the one expected" in followed.conflict
