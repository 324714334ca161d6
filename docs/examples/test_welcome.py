"""How an app tests its handlers: without Kafka, by the code that runs on Kafka too."""

import pytest

from consumers.subscriber import Outcome
from docs.examples.welcome import subscriber


async def test_a_new_owner_is_greeted_once(capsys: pytest.CaptureFixture[str]) -> None:
    events = subscriber.in_memory()
    signup = events.chain.posted("ada", "SIGNUP_CREDIT", 3)

    assert await events.give(signup, signup) == (Outcome.HANDLED, Outcome.SEEN)

    assert capsys.readouterr().out == "0:1 welcome ada, you have 3 credits\n"
