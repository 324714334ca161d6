"""An app that may only spend mints nothing: whatever it sends, in whatever order, no balance ever rises."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.domain.account import EMPTY_ACCOUNT, Account
from ledger.domain.command import Command
from ledger.domain.decider import decide, evolve
from ledger.domain.limits import AMOUNT_MAX
from ledger.domain.position import Position
from ledger.operations import BaseLedgerOperations
from tests.till_operations import TillOperations

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
RULES = TillOperations.rules()

edge_amounts = st.sampled_from(
    [0, 1, -1, 50, -50, -51, AMOUNT_MAX, -AMOUNT_MAX, AMOUNT_MAX + 1, -AMOUNT_MAX - 1, 2**63 - 1, -(2**63)]
)
commands = st.builds(
    Command,
    app=st.just("till"),
    command_id=st.uuids(),
    operation=st.sampled_from([*TillOperations.operations, "CONTENT_CREATION", "MINT"]),
    owner_id=st.sampled_from(["a", "b"]),
    nonce=st.sampled_from(["m", "n", "o", "p", "q"]),
    issued_at=st.just(NOW),
    amount=st.none() | edge_amounts | st.integers(-60, 60),
    credit_type=st.sampled_from(["credits", "credits", "gold"]),
    not_after=st.none() | st.sampled_from([NOW, NOW - timedelta(microseconds=1)]),
)
balances = st.sampled_from([0, 1, 49, 120, AMOUNT_MAX])


def test_the_till_may_spend_and_nothing_else() -> None:
    """What the property below speaks of: the declaration of a real app, not a table made for the test."""
    assert issubclass(TillOperations, BaseLedgerOperations)
    assert RULES.allowed == {"CREDIT_SPEND", "PURCHASE"}


@given(st.lists(commands, max_size=40), balances)
@settings(max_examples=400)
def test_no_balance_ever_rises(sequence: list[Command], balance: int) -> None:
    accounts: dict[tuple[str, str], Account] = {(owner, "credits"): Account(balance, 1) for owner in ("a", "b")}
    nonces: dict[tuple[str, str], Position] = {}
    spent = 0
    for number, command in enumerate(sequence):
        key = (command.owner_id, command.credit_type)
        before = accounts.get(key, EMPTY_ACCOUNT)
        event = decide(command, before, RULES, NOW, nonces.get((command.owner_id, command.nonce)))
        accounts[key] = evolve(before, event)
        assert event.amount <= 0
        assert 0 <= accounts[key].balance <= before.balance
        if event.reason is None:
            assert command.operation in RULES.allowed
            assert -event.amount <= RULES.operations[command.operation].largest_amount
            nonces[command.owner_id, command.nonce] = Position(0, number + 1)
            spent -= event.amount
    assert sum(account.balance for account in accounts.values()) == 2 * balance - spent


def test_the_same_commands_from_an_app_that_may_mint_do_raise_it() -> None:
    """The property above would be idle if nothing that it tries could raise a balance."""

    class Bank(BaseLedgerOperations):
        app = "bank"

    command = Command("bank", UUID(int=1), "CREDIT_ADD", "a", "n", NOW, 5, "credits", None, None)
    assert decide(command, EMPTY_ACCOUNT, Bank.rules(), NOW, None).amount == 5
