"""What TopicAdmin promises, on the real cluster and on the in-memory one."""

from ledger.broker.protocol import TopicSpec
from ledger.broker.topics_sync import WrongSize, check_topics, sync_topics, wanted_topics
from ledger.messages.topics import Topics
from tests.contract.clusters import Cluster, unique


async def test_topics_are_created_with_their_size(cluster: Cluster) -> None:
    admin = cluster.admin()
    one, many = unique("one"), unique("many")
    await admin.create([TopicSpec(one, 1, 1, 60_000), TopicSpec(many, 12, 1, -1)])
    counts = await admin.partition_counts()
    assert (counts[one], counts[many]) == (1, 12)


async def test_a_topic_that_exists_is_left_as_it_is(cluster: Cluster) -> None:
    admin = cluster.admin()
    there, new = await cluster.new_topic(3), unique("new")
    await cluster.append(there, 0, b"k", b"v")
    await admin.create([TopicSpec(there, 5, 1, -1), TopicSpec(new, 5, 1, -1)])
    counts = await admin.partition_counts()
    assert (counts[there], counts[new]) == (3, 5)


async def test_creating_nothing_does_nothing(cluster: Cluster) -> None:
    await cluster.admin().create([])


async def test_sync_creates_what_is_missing_and_names_what_is_wrong(cluster: Cluster) -> None:
    admin = cluster.admin()
    topics = Topics(unique("t"))
    await admin.create([TopicSpec(topics.commands("shop"), 3, 1, -1), TopicSpec(topics.commands("stray"), 12, 1, -1)])
    specs = wanted_topics(topics, ["shop", "blog"], 12, 1, 1)

    before = await check_topics(admin, specs, topics)
    assert before.missing == (
        topics.events,
        topics.replays,
        topics.commands("blog"),
        topics.parked("blog"),
        topics.parked("shop"),
    )
    assert before.wrong_size == (WrongSize(topics.commands("shop"), 12, 3),)
    assert not before.sound

    report = await sync_topics(admin, specs, topics)
    assert report.created == before.missing
    assert report.right == ()
    assert report.missing == ()
    assert [str(wrong) for wrong in report.wrong_size] == [f"{topics.commands('shop')} has 3 partitions instead of 12"]
    assert report.unregistered == (topics.commands("stray"),)

    again = await sync_topics(admin, specs, topics)
    assert (again.created, again.right) == ((), before.missing)
