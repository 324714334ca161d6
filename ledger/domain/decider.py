"""`decide` and `evolve`: the whole idea of the ledger (after emmett's decider; see docs/concepts.md)."""

from datetime import datetime
from typing import Protocol

from ledger.domain.account import Account
from ledger.domain.command import Command
from ledger.domain.event import NewEvent
from ledger.domain.limits import AMOUNT_MAX
from ledger.domain.position import Position
from ledger.domain.rejection import Reason
from ledger.domain.rules import AppRules


class ImpossibleEventError(Exception):
    """An event that cannot follow the account's state: the record, or the code that reads it, is wrong."""


class AccountChange(Protocol):
    """What `evolve` needs to see of an event, new or recorded."""

    @property
    def account_version(self) -> int: ...
    @property
    def amount(self) -> int: ...
    @property
    def balance_after(self) -> int: ...
    @property
    def reason(self) -> str | None: ...


def decide(
    command: Command,
    account: Account,
    rules: AppRules,
    now: datetime,
    nonce_used_at: Position | None,
) -> NewEvent:
    """Decide what becomes of a command that has not been decided before.

    Args:
        command: the command.
        account: the account that it wants to change.
        rules: the rules of the command's app.
        now: when it is decided.
        nonce_used_at: where the accepted entry of the same app and owner with this nonce lies, if there is one.
    """
    rule = rules.operations.get(command.operation)
    if rule is None:
        return _rejected(account, Reason.UNKNOWN_OPERATION, command.operation)
    if command.operation not in rules.allowed:
        return _rejected(account, Reason.OPERATION_NOT_ALLOWED, f"{rules.app} may not use {command.operation}")
    if command.credit_type not in rules.credit_types:
        return _rejected(account, Reason.UNKNOWN_CREDIT_TYPE, command.credit_type)
    amount = rule.default_amount if command.amount is None else command.amount
    amount_error = rule.amount_error(amount)
    if amount_error is not None:
        return _rejected(account, Reason.INVALID_AMOUNT, amount_error)
    if command.not_after is not None and now > command.not_after:
        return _rejected(account, Reason.EXPIRED, f"not after {command.not_after.isoformat()}")
    if nonce_used_at is not None:
        return _rejected(account, Reason.DUPLICATE_NONCE, str(nonce_used_at))
    balance = account.balance + amount
    if balance < 0:
        return _rejected(account, Reason.INSUFFICIENT_CREDITS, f"{account.balance} available, {-amount} needed")
    if balance > AMOUNT_MAX:
        return _rejected(account, Reason.BALANCE_OVERFLOW, f"{account.balance} + {amount} exceeds {AMOUNT_MAX}")
    return NewEvent(account.version + 1, amount, balance)


def evolve(account: Account, event: AccountChange) -> Account:
    """The account's state after the event.

    Raises:
        ImpossibleEventError: the event cannot follow this state.
    """
    if event.reason is not None:
        if event.account_version != account.version or event.balance_after != account.balance or event.amount:
            raise ImpossibleEventError(f"a rejection that changes {account}: {event}")
        return account
    if (
        event.account_version != account.version + 1
        or event.balance_after != account.balance + event.amount
        or not 0 <= event.balance_after <= AMOUNT_MAX
    ):
        raise ImpossibleEventError(f"an entry that cannot follow {account}: {event}")
    return Account(event.balance_after, event.account_version)


def _rejected(account: Account, reason: Reason, detail: str) -> NewEvent:
    return NewEvent(account.version, 0, account.balance, reason, detail)
