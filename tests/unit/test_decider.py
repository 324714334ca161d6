"""Given an account and its app's rules, when a command is decided, then this event follows, and this state."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import combinations
from uuid import UUID

import msgspec
import pytest

from ledger.domain.account import EMPTY_ACCOUNT, Account
from ledger.domain.command import Command
from ledger.domain.decider import ImpossibleEventError, decide, evolve
from ledger.domain.event import NewEvent
from ledger.domain.limits import AMOUNT_MAX
from ledger.domain.position import Position
from ledger.domain.rejection import Reason, State
from ledger.domain.rules import AppRules, OperationRule, Sign

NOW = datetime(2026, 1, 31, 12, 0, 0, 500, tzinfo=UTC)
MOMENT = timedelta(microseconds=1)
LARGEST = 1_000
RULES = AppRules(
    app="shop",
    operations={
        "REWARD": OperationRule(3, Sign.POSITIVE),
        "PURCHASE": OperationRule(-5, Sign.NEGATIVE),
        "VISIT": OperationRule(0, Sign.ZERO),
        "ADD": OperationRule(10, Sign.POSITIVE, caller_sets_amount=True),
        "SPEND": OperationRule(-1, Sign.NEGATIVE, caller_sets_amount=True),
        "MOVE": OperationRule(1, Sign.ANY, caller_sets_amount=True, largest_amount=LARGEST),
        "MINT": OperationRule(1, Sign.ANY, caller_sets_amount=True, largest_amount=LARGEST),
    },
    allowed=frozenset({"REWARD", "PURCHASE", "VISIT", "ADD", "SPEND", "MOVE"}),
    credit_types=frozenset({"credits", "points"}),
)
COMMAND = Command(
    app="shop", command_id=UUID(int=1), operation="MOVE", owner_id="owner", nonce="nonce", issued_at=NOW - MOMENT
)


@dataclass(frozen=True)
class Given:
    """What is decided on; `when` decides."""

    command: Command = COMMAND
    account: Account = EMPTY_ACCOUNT
    nonce_used_at: Position | None = None

    def when(self) -> NewEvent:
        return decide(self.command, self.account, RULES, NOW, self.nonce_used_at)


def given(account: Account = EMPTY_ACCOUNT, *, nonce_used_at: Position | None = None, **command: object) -> Given:
    return Given(msgspec.structs.replace(COMMAND, **command), account, nonce_used_at)


# --- accepted -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "amount", "moved"),
    [
        ("REWARD", None, 3),
        ("REWARD", 3, 3),
        ("PURCHASE", None, -5),
        ("PURCHASE", -5, -5),
        ("VISIT", None, 0),
        ("VISIT", 0, 0),
        ("ADD", None, 10),
        ("ADD", 1, 1),
        ("SPEND", None, -1),
        ("SPEND", -100, -100),
        ("MOVE", LARGEST, LARGEST),
        ("MOVE", 0, 0),
    ],
)
def test_an_accepted_command_moves_the_balance_by_its_amount(operation: str, amount: int | None, moved: int) -> None:
    event = given(Account(100, 7), operation=operation, amount=amount).when()
    assert event == NewEvent(account_version=8, amount=moved, balance_after=100 + moved)
    assert evolve(Account(100, 7), event) == Account(100 + moved, 8)


def test_an_account_can_be_emptied_to_zero_and_filled_to_the_limit() -> None:
    assert given(Account(100, 1), operation="SPEND", amount=-100).when().balance_after == 0
    full = given(Account(AMOUNT_MAX - 1, 1), operation="ADD", amount=1).when()
    assert (full.reason, full.balance_after) == (None, AMOUNT_MAX)


def test_every_declared_credit_type_is_accepted() -> None:
    assert given(credit_type="points").when().reason is None


def test_a_command_is_valid_up_to_and_including_its_last_moment() -> None:
    assert given(not_after=NOW + MOMENT).when().reason is None
    assert given(not_after=NOW).when().reason is None
    assert given(not_after=NOW - MOMENT).when().reason is Reason.EXPIRED


# --- rejected -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scene", "reason", "detail"),
    [
        (given(operation="NOPE"), "UNKNOWN_OPERATION", "NOPE"),
        (given(operation="move"), "UNKNOWN_OPERATION", "move"),
        (given(operation="MINT"), "OPERATION_NOT_ALLOWED", "shop may not use MINT"),
        (given(credit_type="gold"), "UNKNOWN_CREDIT_TYPE", "gold"),
        (given(operation="REWARD", amount=4), "INVALID_AMOUNT", "must be 3, got 4"),
        (given(operation="VISIT", amount=1), "INVALID_AMOUNT", "must be 0, got 1"),
        (given(operation="ADD", amount=0), "INVALID_AMOUNT", "must be positive, got 0"),
        (given(operation="ADD", amount=-1), "INVALID_AMOUNT", "must be positive, got -1"),
        (given(operation="SPEND", amount=1000), "INVALID_AMOUNT", "must be negative, got 1000"),
        (given(operation="SPEND", amount=0), "INVALID_AMOUNT", "must be negative, got 0"),
        (given(amount=1001), "INVALID_AMOUNT", "must be at most 1000 in absolute value, got 1001"),
        (given(amount=-1001), "INVALID_AMOUNT", "must be at most 1000 in absolute value, got -1001"),
        (
            given(operation="ADD", amount=2**53),
            "INVALID_AMOUNT",
            f"must be at most {AMOUNT_MAX} in absolute value, got {2**53}",
        ),
        (
            given(operation="SPEND", amount=-(2**63)),
            "INVALID_AMOUNT",
            f"must be at most {AMOUNT_MAX} in absolute value, got {-(2**63)}",
        ),
        (given(not_after=NOW - MOMENT), "EXPIRED", "not after 2026-01-31T12:00:00.000499+00:00"),
        (given(nonce_used_at=Position(3, 17)), "DUPLICATE_NONCE", "3:17"),
        (given(operation="PURCHASE"), "INSUFFICIENT_CREDITS", "0 available, 5 needed"),
        (given(Account(4, 1), operation="PURCHASE"), "INSUFFICIENT_CREDITS", "4 available, 5 needed"),
        (given(Account(AMOUNT_MAX, 1)), "BALANCE_OVERFLOW", f"{AMOUNT_MAX} + 1 exceeds {AMOUNT_MAX}"),
    ],
)
def test_a_rejected_command_says_why_and_changes_nothing(scene: Given, reason: str, detail: str) -> None:
    event = scene.when()
    assert (event.reason, event.detail) == (reason, detail)
    assert (event.amount, event.balance_after) == (0, scene.account.balance)
    assert event.account_version == scene.account.version
    assert evolve(scene.account, event) == scene.account


def test_an_unused_nonce_and_the_same_command_are_accepted_after_a_top_up() -> None:
    assert given(operation="PURCHASE").when().reason is Reason.INSUFFICIENT_CREDITS
    assert given(Account(5, 1), operation="PURCHASE").when().reason is None


# --- the order of the reasons ---------------------------------------------------------------------------------------

CANNOT_APPLY_TOGETHER = {frozenset({Reason.INSUFFICIENT_CREDITS, Reason.BALANCE_OVERFLOW})}


def scene_with(reasons: frozenset[Reason]) -> Given:
    """A command to which all these reasons apply, and no other."""
    scene = given(Account(5, 1), amount=1)
    down = Reason.INSUFFICIENT_CREDITS in reasons
    if down:
        scene = replace(scene, account=Account(5, 1))
    elif Reason.BALANCE_OVERFLOW in reasons:
        scene = replace(scene, account=Account(AMOUNT_MAX - 5, 1))
    amount = 1
    if Reason.INVALID_AMOUNT in reasons:
        amount = LARGEST + 1
        if not down and Reason.BALANCE_OVERFLOW not in reasons:
            amount = -amount
            scene = replace(scene, account=Account(2 * LARGEST, 1))
    elif down or Reason.BALANCE_OVERFLOW in reasons:
        amount = 6
    fields: dict[str, object] = {"amount": -amount if down else amount}
    if Reason.OPERATION_NOT_ALLOWED in reasons:
        fields["operation"] = "MINT"
    if Reason.UNKNOWN_OPERATION in reasons:
        fields["operation"] = "NOPE"
    if Reason.UNKNOWN_CREDIT_TYPE in reasons:
        fields["credit_type"] = "gold"
    if Reason.EXPIRED in reasons:
        fields["not_after"] = NOW - MOMENT
    used_at = Position(0, 1) if Reason.DUPLICATE_NONCE in reasons else None
    return Given(msgspec.structs.replace(scene.command, **fields), scene.account, used_at)


ALL_TOGETHER = [
    frozenset(reasons)
    for size in range(len(Reason) + 1)
    for reasons in combinations(Reason, size)
    if not any(pair <= frozenset(reasons) for pair in CANNOT_APPLY_TOGETHER)
]


@pytest.mark.parametrize(
    ("earlier", "later"),
    [pair for pair in combinations(Reason, 2) if frozenset(pair) not in CANNOT_APPLY_TOGETHER],
    ids=lambda reason: reason.value,
)
def test_of_two_reasons_the_earlier_one_is_given(earlier: Reason, later: Reason) -> None:
    assert scene_with(frozenset({earlier, later})).when().reason is earlier


def test_of_any_reasons_the_earliest_is_given_and_without_any_the_command_is_accepted() -> None:
    assert len(ALL_TOGETHER) == 2**8 - 2**6
    for reasons in ALL_TOGETHER:
        expected = min(reasons, key=list(Reason).index, default=None)
        assert scene_with(reasons).when().reason is expected, reasons


def test_the_order_is_the_documented_one() -> None:
    assert [(reason.value, reason.failed_in) for reason in Reason] == [
        ("UNKNOWN_OPERATION", State.VALIDATING),
        ("OPERATION_NOT_ALLOWED", State.VALIDATING),
        ("UNKNOWN_CREDIT_TYPE", State.VALIDATING),
        ("INVALID_AMOUNT", State.VALIDATING),
        ("EXPIRED", State.VALIDATING),
        ("DUPLICATE_NONCE", State.CHECKING_NONCE),
        ("INSUFFICIENT_CREDITS", State.CHECKING_BALANCE),
        ("BALANCE_OVERFLOW", State.CHECKING_BALANCE),
    ]


# --- evolve ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "event",
    [
        NewEvent(account_version=4, amount=1, balance_after=11),
        NewEvent(account_version=6, amount=1, balance_after=11),
        NewEvent(account_version=5, amount=1, balance_after=12),
        NewEvent(account_version=5, amount=-11, balance_after=-1),
        NewEvent(account_version=5, amount=AMOUNT_MAX, balance_after=AMOUNT_MAX + 10),
        NewEvent(account_version=5, amount=0, balance_after=10, reason=Reason.EXPIRED),
        NewEvent(account_version=4, amount=1, balance_after=11, reason=Reason.EXPIRED),
        NewEvent(account_version=4, amount=1, balance_after=10, reason=Reason.EXPIRED),
        NewEvent(account_version=4, amount=0, balance_after=9, reason=Reason.EXPIRED),
    ],
    ids=[
        "an entry that repeats the version",
        "an entry that skips a version",
        "an entry whose balance does not add up",
        "an entry that overdraws",
        "an entry that overflows",
        "a rejection that raises the version",
        "a rejection that moves the balance",
        "a rejection with an amount",
        "a rejection with another balance",
    ],
)
def test_evolve_raises_on_the_impossible(event: NewEvent) -> None:
    with pytest.raises(ImpossibleEventError, match="Account"):
        evolve(Account(balance=10, version=4), event)


def test_evolve_takes_an_entry_and_leaves_the_account_at_a_rejection() -> None:
    account = Account(10, 4)
    assert evolve(account, NewEvent(5, -10, 0)) == Account(0, 5)
    assert evolve(account, NewEvent(4, 0, 10, Reason.EXPIRED)) is account
