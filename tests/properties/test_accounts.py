"""Any sequence of commands keeps invariants 4 to 7, decided one after another as the ledger does.

The auditor is another, plainer account of what must come out (after TigerBeetle's): it knows no rules, only outcomes.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.domain.account import EMPTY_ACCOUNT, Account
from ledger.domain.command import Command
from ledger.domain.decider import decide, evolve
from ledger.domain.event import NewEvent
from ledger.domain.limits import AMOUNT_MAX
from ledger.domain.position import Position
from ledger.domain.rejection import Reason, State
from ledger.domain.rules import AppRules, OperationRule, Sign

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
RULES = {
    app: AppRules(
        app,
        {
            "MOVE": OperationRule(1, Sign.ANY, caller_sets_amount=True),
            "REWARD": OperationRule(3, Sign.POSITIVE),
            "VISIT": OperationRule(0, Sign.ZERO),
            "MINT": OperationRule(1, Sign.POSITIVE, caller_sets_amount=True),
        },
        frozenset({"MOVE", "REWARD", "VISIT"} | ({"MINT"} if app == "bank" else set())),
        frozenset({"credits", "points"}),
    )
    for app in ("shop", "bank")
}

edge_amounts = st.sampled_from(
    [0, 1, -1, AMOUNT_MAX, -AMOUNT_MAX, AMOUNT_MAX - 1, AMOUNT_MAX + 1, -AMOUNT_MAX - 1, 2**63 - 1, -(2**63)]
)
commands = st.builds(
    Command,
    app=st.sampled_from(["shop", "bank"]),
    command_id=st.integers(0, 6).map(lambda number: UUID(int=number)),
    operation=st.sampled_from(["MOVE", "MOVE", "MOVE", "REWARD", "VISIT", "MINT", "NOPE"]),
    owner_id=st.sampled_from(["a", "b"]),
    nonce=st.sampled_from(["m", "n", "o", "p", "q"]),
    issued_at=st.just(NOW),
    amount=st.none() | edge_amounts | st.integers(-20, 20) | st.integers(-20, 20),
    credit_type=st.sampled_from(["credits", "credits", "credits", "points", "gold"]),
    not_after=st.none() | st.sampled_from([NOW, NOW - timedelta(microseconds=1)]),
)


@dataclass
class Ledger:
    """Decides commands one after another, as the consumer does, without batches, stores or topics."""

    accounts: dict[tuple[str, str], Account] = field(default_factory=dict)
    record: list[tuple[Command, NewEvent]] = field(default_factory=list)
    answers: dict[tuple[str, str, UUID], NewEvent] = field(default_factory=dict)
    nonces: dict[tuple[str, str, str], Position] = field(default_factory=dict)

    def take(self, command: Command) -> NewEvent:
        """The answer to the command: the event recorded now, or the first one given again."""
        identity = (command.app, command.owner_id, command.command_id)
        if identity in self.answers:
            return self.answers[identity]
        key = (command.owner_id, command.credit_type)
        account = self.accounts.get(key, EMPTY_ACCOUNT)
        nonce = (command.app, command.owner_id, command.nonce)
        event = decide(command, account, RULES[command.app], NOW, self.nonces.get(nonce))
        self.accounts[key] = evolve(account, event)
        self.record.append((command, event))
        self.answers[identity] = event
        if event.reason is None:
            self.nonces[nonce] = Position(0, len(self.record))
        return event


@given(st.lists(commands, max_size=40))
@settings(max_examples=400)
def test_invariants_4_to_7_hold_for_any_commands(sequence: list[Command]) -> None:
    ledger = Ledger()
    answers: dict[tuple[str, str, UUID], NewEvent] = {}
    balances: dict[tuple[str, str], list[int]] = {}
    accepted_nonces: set[tuple[str, str, str]] = set()
    for command in sequence:
        recorded_before = len(ledger.record)
        answer = ledger.take(command)
        identity = (command.app, command.owner_id, command.command_id)

        # 7 (command ids) and 8: one event per (app, owner, command id), and its answer never changes.
        if identity in answers:
            assert answer == answers[identity]
            assert len(ledger.record) == recorded_before
            continue
        answers[identity] = answer

        # 4: decided in the order of the sequence.
        assert ledger.record[recorded_before:] == [(command, answer)]

        amounts = balances.setdefault((command.owner_id, command.credit_type), [])
        nonce = (command.app, command.owner_id, command.nonce)
        if answer.reason is None:
            # 7 (nonces): at most one accepted entry.
            assert nonce not in accepted_nonces
            accepted_nonces.add(nonce)
            amounts.append(answer.amount)
            if command.amount is not None:
                assert answer.amount == command.amount
        else:
            assert answer.amount == 0
            check_refused_for_cause(command, answer, sum(amounts), nonce in accepted_nonces)
        # 5 and 6: never below zero nor above the limit; the balance is the sum; the version counts the entries.
        assert 0 <= answer.balance_after <= AMOUNT_MAX
        assert answer.balance_after == sum(amounts)
        assert answer.account_version == len(amounts)

    for key, amounts in balances.items():
        assert ledger.accounts[key] == Account(sum(amounts), len(amounts))


def check_refused_for_cause(command: Command, answer: NewEvent, balance: int, nonce_used: bool) -> None:
    """A rejection is given only if its reason is true, and none that is checked before."""
    rules = RULES[command.app]
    assert answer.reason is not None
    assert answer.detail
    if answer.reason.failed_in is not State.VALIDATING:
        assert command.operation in rules.allowed
        assert command.credit_type in rules.credit_types
        assert command.not_after is None or command.not_after >= NOW
    assert (answer.reason is Reason.DUPLICATE_NONCE) <= nonce_used
    if answer.reason.failed_in is State.CHECKING_BALANCE:
        assert not nonce_used
        amount = rules.operations[command.operation].default_amount if command.amount is None else command.amount
        assert not 0 <= balance + amount <= AMOUNT_MAX
        assert abs(amount) <= AMOUNT_MAX


@given(st.lists(commands, max_size=15), st.integers(0, 15))
def test_commands_sent_again_from_anywhere_add_nothing(sequence: list[Command], start: int) -> None:
    ledger = Ledger()
    first = [ledger.take(command) for command in sequence]
    recorded, accounts = list(ledger.record), dict(ledger.accounts)
    assert [ledger.take(command) for command in sequence[start:]] == first[start:]
    assert (ledger.record, ledger.accounts) == (recorded, accounts)


@given(st.lists(commands, max_size=20))
def test_the_accounts_follow_from_the_record_alone(sequence: list[Command]) -> None:
    ledger = Ledger()
    for command in sequence:
        ledger.take(command)
    accounts: dict[tuple[str, str], Account] = {}
    for command, event in ledger.record:
        key = (command.owner_id, command.credit_type)
        accounts[key] = evolve(accounts.get(key, EMPTY_ACCOUNT), event)
    assert accounts == ledger.accounts
