"""The topics of a ledger, as the design's table has them."""

from ledger.broker.protocol import TopicSpec
from ledger.broker.topics_sync import wanted_topics
from ledger.messages.topics import Topics

HOUR_MS = 3_600_000


def test_the_topics_of_a_ledger_with_two_apps() -> None:
    assert wanted_topics(Topics(), ["shop", "blog"], 12, 3, 2) == [
        TopicSpec("ledger.events", 12, 3, -1, 2),
        TopicSpec("ledger.replays", 12, 3, HOUR_MS, 2),
        TopicSpec("ledger.commands.blog", 12, 3, 7 * 24 * HOUR_MS, 2),
        TopicSpec("ledger.parked.blog", 12, 3, -1, 2),
        TopicSpec("ledger.commands.shop", 12, 3, 7 * 24 * HOUR_MS, 2),
        TopicSpec("ledger.parked.shop", 12, 3, -1, 2),
    ]


def test_another_prefix_is_another_ledger() -> None:
    assert {spec.name for spec in wanted_topics(Topics("test"), [], 1, 1, 1)} == {"test.events", "test.replays"}
