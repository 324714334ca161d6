"""A declaration of operations is checked at start, and what is wrong with it is said by name."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import ClassVar
from uuid import UUID

import pytest

from apps.example_app.operations import ExampleAppOperations
from ledger.domain.account import Account
from ledger.domain.command import Command
from ledger.domain.decider import decide
from ledger.domain.limits import AMOUNT_MAX
from ledger.domain.rejection import Reason
from ledger.operations import AppRules, BaseLedgerOperations, OperationRule, OperationsError, Sign

BASE = BaseLedgerOperations.operations


class ShopOperations(BaseLedgerOperations):
    """A valid declaration, from which the invalid ones are derived."""

    app = "shop"
    operations: ClassVar[Mapping[str, OperationRule]] = {**BASE, "PURCHASE": OperationRule(-10, Sign.NEGATIVE)}


def declared(**attributes: object) -> type[BaseLedgerOperations]:
    """A class like ShopOperations with these attributes."""
    return type("BrokenOperations", (ShopOperations,), attributes)


def test_the_base_operations_are_the_documented_ones() -> None:
    assert {name: (rule.default_amount, rule.sign, rule.caller_sets_amount) for name, rule in BASE.items()} == {
        "DAILY_REWARD": (1, Sign.POSITIVE, False),
        "SIGNUP_CREDIT": (3, Sign.POSITIVE, False),
        "CREDIT_SPEND": (-1, Sign.NEGATIVE, True),
        "CREDIT_ADD": (10, Sign.POSITIVE, True),
    }
    assert BASE["CREDIT_ADD"].largest_amount == BASE["CREDIT_SPEND"].largest_amount == 2**53 - 1


def test_the_example_app_has_its_two_operations() -> None:
    ExampleAppOperations.validate_operations()
    assert ExampleAppOperations.get_operation_config("CONTENT_CREATION").default_amount == -5
    assert ExampleAppOperations.get_operation_config("CONTENT_ACCESS").default_amount == 0
    assert ExampleAppOperations.get_operation_config("CREDIT_ADD") == BASE["CREDIT_ADD"]


def test_a_valid_declaration_gives_its_rules() -> None:
    ShopOperations.validate_operations()
    assert ShopOperations.rules() == AppRules(
        app="shop",
        operations=dict(ShopOperations.operations),
        allowed=frozenset({*BASE, "PURCHASE"}),
        credit_types=frozenset({"credits"}),
    )


def test_an_unknown_operation_is_named_with_those_that_exist() -> None:
    with pytest.raises(OperationsError, match=r"ShopOperations has no operation 'NOPE'; it has .*PURCHASE"):
        ShopOperations.get_operation_config("NOPE")


@pytest.mark.parametrize("name", list(BASE))
def test_a_base_operation_that_is_dropped_is_named(name: str) -> None:
    kept = {other: rule for other, rule in ShopOperations.operations.items() if other != name}
    with pytest.raises(OperationsError, match=f"BrokenOperations drops the base operation {name}"):
        declared(operations=kept).validate_operations()


@pytest.mark.parametrize("name", list(BASE))
def test_a_base_operation_that_is_changed_is_named(name: str) -> None:
    changed = {**ShopOperations.operations, name: OperationRule(7, Sign.POSITIVE)}
    with pytest.raises(OperationsError, match=f"BrokenOperations changes the base operation {name}"):
        declared(operations=changed).validate_operations()


@pytest.mark.parametrize(
    "change",
    [
        {"default_amount": 11},
        {"sign": Sign.ANY},
        {"caller_sets_amount": False},
        {"largest_amount": 1_000},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_part_of_a_base_rule_is_fixed(change: dict[str, object]) -> None:
    fields: dict[str, object] = {
        "default_amount": 10,
        "sign": Sign.POSITIVE,
        "caller_sets_amount": True,
        "largest_amount": AMOUNT_MAX,
    }
    assert OperationRule(**fields) == BASE["CREDIT_ADD"]  # type: ignore[arg-type]
    changed = OperationRule(**{**fields, **change})  # type: ignore[arg-type]
    with pytest.raises(OperationsError, match="changes the base operation CREDIT_ADD"):
        declared(operations={**ShopOperations.operations, "CREDIT_ADD": changed}).validate_operations()


@pytest.mark.parametrize("app", ["", "Shop", "1shop", "-shop", "shop_1", "shop ", "a" * 32, "shop\n", "ä", "a.b"])
def test_a_wrong_app_name_is_refused(app: str) -> None:
    with pytest.raises(OperationsError, match=r"BrokenOperations\.app is"):
        declared(app=app).validate_operations()


@pytest.mark.parametrize("app", ["a", "shop", "shop-2", "a" * 31])
def test_a_right_app_name_is_taken(app: str) -> None:
    declared(app=app).validate_operations()


@pytest.mark.parametrize("name", ["", "purchase", "1_BUY", "_BUY", "BUY-IT", "BUY IT", "B" * 65, "BUY\n", "KÄUFE"])
def test_a_wrong_operation_name_is_refused(name: str) -> None:
    operations = {**BASE, name: OperationRule(1, Sign.POSITIVE)}
    with pytest.raises(OperationsError, match="declares the operation"):
        declared(operations=operations).validate_operations()


@pytest.mark.parametrize("name", ["B", "BUY_2", "B" * 64])
def test_a_right_operation_name_is_taken(name: str) -> None:
    declared(operations={**BASE, name: OperationRule(1, Sign.POSITIVE)}).validate_operations()


@pytest.mark.parametrize("name", ["", "Credits", "1st", "gold coins", "g" * 65, "gold\n", "gold.coins"])
def test_a_wrong_credit_type_is_refused(name: str) -> None:
    with pytest.raises(OperationsError, match="declares the credit type"):
        declared(credit_types=frozenset({"credits", name})).validate_operations()


def test_an_app_without_credit_types_is_refused() -> None:
    with pytest.raises(OperationsError, match="credit_types is empty"):
        declared(credit_types=frozenset()).validate_operations()


@pytest.mark.parametrize(
    ("rule", "error"),
    [
        (OperationRule(0, Sign.POSITIVE), "must be positive, got 0"),
        (OperationRule(-1, Sign.POSITIVE), "must be positive, got -1"),
        (OperationRule(0, Sign.NEGATIVE), "must be negative, got 0"),
        (OperationRule(1, Sign.ZERO), "must be zero, got 1"),
        (OperationRule(101, Sign.ANY, caller_sets_amount=True, largest_amount=100), "at most 100"),
        (OperationRule(-101, Sign.ANY, caller_sets_amount=True, largest_amount=100), "at most 100"),
    ],
)
def test_a_default_amount_that_breaks_its_own_rule_is_refused(rule: OperationRule, error: str) -> None:
    with pytest.raises(OperationsError, match=rf"BrokenOperations\.BUY: the default amount .*{error}"):
        declared(operations={**BASE, "BUY": rule}).validate_operations()


@pytest.mark.parametrize("largest", [-1, AMOUNT_MAX + 1])
def test_a_largest_amount_outside_what_readers_can_hold_is_refused(largest: int) -> None:
    rule = OperationRule(0, Sign.ANY, caller_sets_amount=True, largest_amount=largest)
    with pytest.raises(OperationsError, match="largest_amount must lie between"):
        declared(operations={**BASE, "BUY": rule}).validate_operations()


@pytest.mark.parametrize("name", ["PURCHASE", "NOPE"])
def test_only_base_operations_can_be_named_as_allowed_base_operations(name: str) -> None:
    with pytest.raises(OperationsError, match=f"allowed_base_operations names {name}"):
        declared(allowed_base_operations=frozenset({"CREDIT_SPEND", name})).validate_operations()


def test_an_app_that_may_only_spend_cannot_mint() -> None:
    rules = declared(allowed_base_operations=frozenset({"CREDIT_SPEND"})).rules()
    now = datetime(2026, 1, 31, tzinfo=UTC)
    outcomes = {}
    for operation in rules.operations:
        command = Command("shop", UUID(int=1), operation, "owner", "nonce", now)
        outcomes[operation] = decide(command, Account(100, 1), rules, now, None).reason
    assert outcomes == {
        "DAILY_REWARD": Reason.OPERATION_NOT_ALLOWED,
        "SIGNUP_CREDIT": Reason.OPERATION_NOT_ALLOWED,
        "CREDIT_ADD": Reason.OPERATION_NOT_ALLOWED,
        "CREDIT_SPEND": None,
        "PURCHASE": None,
    }
