"""What apps may rely on: the public names of `producers`, and one exception for every reason of the ledger."""

import producers
from ledger.domain.rejection import Reason
from producers import errors


def test_the_public_names() -> None:
    assert sorted(producers.__all__) == [
        "BalanceOverflow",
        "ClientClosed",
        "CommandRejected",
        "CommandRequest",
        "DuplicateNonce",
        "Expired",
        "InsufficientCredits",
        "InvalidAmount",
        "InvalidCommand",
        "KafkaSecurity",
        "KafkaUnavailable",
        "LedgerClient",
        "LedgerError",
        "NotPublished",
        "OperationNotAllowed",
        "Outcome",
        "OutcomeUnknown",
        "PublishInDoubt",
        "Published",
        "SyncLedgerClient",
        "TopicUnusable",
        "UnknownCreditType",
        "UnknownOperation",
    ]
    assert all(hasattr(producers, name) for name in producers.__all__)


def test_every_error_is_public_and_in_one_tree() -> None:
    raised = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert raised <= set(producers.__all__)
    assert all(issubclass(getattr(producers, name), producers.LedgerError) for name in raised)


def test_every_reason_has_an_exception_of_its_own() -> None:
    assert set(errors._BY_REASON) == set(Reason)
    assert len(set(errors._BY_REASON.values()) - {errors.CommandRejected}) == len(Reason)
