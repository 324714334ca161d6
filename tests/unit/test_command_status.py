"""What GET /commands/{id} says of a message that an operator has published again."""

from uuid import UUID

import pytest

from producers.command_lookup import Found, Place, Quarantined
from producers.command_status import status_of

ASKED, OTHER = UUID(int=1), UUID(int=2)


def test_after_a_retry_mended_under_another_id_the_first_id_is_not_called_received() -> None:
    """Under it nothing will ever be decided: whoever asks would wait for ever."""
    found = Found(quarantined=Quarantined("NOT_JSON", "malformed", "retried", OTHER))
    status = status_of(ASKED, "ada", found, Place(0, 7))
    assert status is not None
    assert status.state == "QUARANTINED"
    assert str(OTHER) in (status.detail or "")


@pytest.mark.parametrize("retried_as", [ASKED, None])
def test_after_a_retry_under_its_own_id_it_is_waited_for(retried_as: UUID | None) -> None:
    found = Found(quarantined=Quarantined("WRONG_PARTITION", "stray", "retried", retried_as))
    status = status_of(ASKED, "ada", found, Place(0, 7))
    assert status is not None
    assert status.state == "RECEIVED"
