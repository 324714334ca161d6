"""Creating, counting and emptying topics on Kafka, and who reads them."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from aiokafka import TopicPartition as KafkaPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, NoError, TopicAlreadyExistsError, for_code
from aiokafka.protocol.admin import DescribeGroupsRequest_v1, DescribeGroupsRequest_v2
from aiokafka.protocol.api import Request

from ledger.broker.bounded import finish_within
from ledger.broker.cluster_queries import partition_counts
from ledger.broker.kafka_servers import KafkaServers
from ledger.broker.protocol import BrokerUnavailableError, TopicCreationError, TopicSpec
from ledger.broker.refusals import denied, unreachable

REQUEST_TIMEOUT_MS: Final = 15_000
START_LIMIT_S: Final = 10.0
CREATE_LIMIT_S: Final = 30.0
VISIBLE_LIMIT_S: Final = 10.0
VISIBLE_BACKOFF_S: Final = 0.02
STOP_LIMIT_S: Final = 3.0


class KafkaTopicAdmin:
    """TopicAdmin on a real cluster; `async with`, or `start` and `stop`."""

    def __init__(self, kafka: KafkaServers | str, client_id: str = "ledger-admin") -> None:
        self._kafka = KafkaServers.of(kafka)
        self._client_id = client_id
        self._admin: AIOKafkaAdminClient | None = None

    async def __aenter__(self) -> "KafkaTopicAdmin":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Connect. Raises BrokerUnavailableError; may be called again then."""
        admin = AIOKafkaAdminClient(
            client_id=self._client_id, request_timeout_ms=REQUEST_TIMEOUT_MS, **self._kafka.client_settings()
        )
        try:
            async with asyncio.timeout(START_LIMIT_S):
                await admin.start()
        except (KafkaError, TimeoutError) as error:
            await finish_within(STOP_LIMIT_S, admin.close())
            raise await unreachable(self._kafka, error) from error
        self._admin = admin

    async def stop(self) -> None:
        """Disconnect, within STOP_LIMIT_S; never raises."""
        admin, self._admin = self._admin, None
        if admin is not None:
            await finish_within(STOP_LIMIT_S, admin.close())

    async def partition_counts(self) -> Mapping[str, int]:
        """All topics but Kafka's own. Raises BrokerUnavailableError."""
        client: AIOKafkaClient = self._connected()._client
        return await partition_counts(client)

    async def create(self, specs: Sequence[TopicSpec]) -> None:
        """Create these topics, and return when brokers tell of them; one that exists by now is left as it is.

        Raises:
            BrokerUnavailableError: no broker answered in time; some may have been created.
            TopicCreationError: the cluster refuses one of them; the others were created.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + VISIBLE_LIMIT_S
        absent = {spec.name: spec for spec in specs}
        while absent:
            await self._ask_for(list(absent.values()))
            if not (absent := await self._not_visible(absent)):
                return
            if loop.time() >= deadline:
                raise BrokerUnavailableError(f"created, but no broker tells of them: {sorted(absent)}")
            # Asked for again, not only waited for: one that was still being deleted is not there when that is done.
            await asyncio.sleep(VISIBLE_BACKOFF_S)

    async def _ask_for(self, specs: Sequence[TopicSpec]) -> None:
        admin = self._connected()
        try:
            async with asyncio.timeout(CREATE_LIMIT_S):
                response: Any = await admin.create_topics([_new_topic(spec) for spec in specs])
        except (KafkaError, TimeoutError) as error:
            raise BrokerUnavailableError(f"topics could not be created: {error!r}") from error
        refused = []
        for name, error_code, message in response.topic_errors:
            outcome = for_code(error_code)
            if outcome not in (NoError, TopicAlreadyExistsError):
                want = denied(self._kafka, outcome, "CREATE", f"topic {name}")
                refused.append(want or f"{name}: {message or outcome.__name__}")
        if refused:
            raise TopicCreationError("; ".join(refused))

    async def _not_visible(self, specs: Mapping[str, TopicSpec]) -> dict[str, TopicSpec]:
        # The controller knows a topic a moment before the brokers that are asked for it.
        told = await self.partition_counts()
        return {name: spec for name, spec in specs.items() if name not in told}

    async def members(self, groups: Collection[str]) -> list[str]:
        """Who is in these consumer groups now: `group: client at host` for each. Raises BrokerUnavailableError."""
        try:
            async with asyncio.timeout(CREATE_LIMIT_S):
                return sorted([member for name in groups for member in await self._members_of(name)])
        except (KafkaError, TimeoutError) as error:
            raise BrokerUnavailableError(f"the consumer groups could not be asked for: {error!r}") from error

    async def _members_of(self, name: str) -> list[str]:
        admin = self._connected()
        while True:
            try:
                coordinator = await admin.find_coordinator(name)
                response: Any = await admin._client.send(coordinator, _DescribeGroups([name]))
                [(error_code, _name, _state, _type, _protocol, members)] = response.groups
                if for_code(error_code) is not NoError:
                    raise for_code(error_code)(name)
            except KafkaError as error:
                if not error.retriable:
                    raise
                # A cluster that has just begun makes the place where it keeps its groups when first asked.
                await asyncio.sleep(VISIBLE_BACKOFF_S)
            else:
                return [f"{name}: {client_id} at {host}" for _member, client_id, host, *_ in members]

    async def empty(self, topic: str, partitions: int) -> None:
        """Delete all records of a topic. Offsets go on where they are, and groups keep theirs: so whoever reads it
        notices, which nobody does when a topic is deleted and made anew.

        Raises:
            BrokerUnavailableError: some may have been deleted; do it again.
        """
        admin = self._connected()
        everything = {KafkaPartition(topic, one): RecordsToDelete(before_offset=-1) for one in range(partitions)}
        try:
            async with asyncio.timeout(CREATE_LIMIT_S):
                await admin.delete_records(everything)
        except (KafkaError, TimeoutError) as error:
            raise BrokerUnavailableError(f"{topic} could not be emptied: {error!r}") from error

    def _connected(self) -> AIOKafkaAdminClient:
        if self._admin is None:
            raise BrokerUnavailableError("the admin client is not started")
        return self._admin


class _DescribeGroups(Request[DescribeGroupsRequest_v1 | DescribeGroupsRequest_v2]):
    # aiokafka's own asks in version 3, and then takes the answer for one of version 2, which fails.
    API_KEY = DescribeGroupsRequest_v2.API_KEY

    def __init__(self, groups: list[str]) -> None:
        self._groups = groups

    def build(self, request_struct_class: Any) -> Any:
        return request_struct_class(self._groups)


def _new_topic(spec: TopicSpec) -> NewTopic:
    return NewTopic(
        name=spec.name,
        num_partitions=spec.partitions,
        replication_factor=spec.replication_factor,
        topic_configs={
            "retention.ms": str(spec.retention_ms),
            "min.insync.replicas": str(spec.min_insync_replicas),
            "cleanup.policy": "delete",
        },
    )
