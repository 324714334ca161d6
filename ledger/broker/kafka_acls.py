"""AclAdmin on a real cluster: aiokafka knows the requests, but its admin client does not send them."""

import asyncio
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, NoError, SecurityDisabled, for_code
from aiokafka.protocol.admin import CreateAclsRequest, DeleteAclsRequest, DescribeAclsRequest
from aiokafka.protocol.api import Request

from ledger.broker.acls import Acl, AclsRefusedError, Pattern, Resource
from ledger.broker.bounded import finish_within
from ledger.broker.kafka_servers import KafkaServers
from ledger.broker.protocol import BrokerUnavailableError
from ledger.broker.refusals import denied, unreachable

REQUEST_TIMEOUT_MS: Final = 15_000
START_LIMIT_S: Final = 10.0
VISIBLE_LIMIT_S: Final = 10.0
VISIBLE_BACKOFF_S: Final = 0.02
STOP_LIMIT_S: Final = 3.0

# Numbers of the protocol: org.apache.kafka.common.resource.ResourceType and PatternType, common.acl.AclOperation and
# AclPermissionType. 1 stands for any of them in a filter.
_ANY: Final = 1
_ALLOW: Final = 3
_EACH: Final[Any] = None
"""A filter by name that lets every name through; aiokafka encodes it, though its annotations say `str`."""
_RESOURCES: Final[dict[int, Resource]] = {2: "topic", 3: "group"}
_PATTERNS: Final[dict[int, Pattern]] = {3: "literal", 4: "prefixed"}
_OPERATIONS: Final = {
    2: "ALL",
    3: "READ",
    4: "WRITE",
    5: "CREATE",
    6: "DELETE",
    7: "ALTER",
    8: "DESCRIBE",
    9: "CLUSTER_ACTION",
    10: "DESCRIBE_CONFIGS",
    11: "ALTER_CONFIGS",
    12: "IDEMPOTENT_WRITE",
    13: "CREATE_TOKENS",
    14: "DESCRIBE_TOKENS",
}


class KafkaAclAdmin:
    """`async with`. See the protocol for what each method promises."""

    def __init__(self, kafka: KafkaServers | str, client_id: str = "ledger-acls") -> None:
        self._kafka = KafkaServers.of(kafka)
        self._client_id = client_id
        self._client: AIOKafkaClient | None = None

    async def __aenter__(self) -> "KafkaAclAdmin":
        client = AIOKafkaClient(
            client_id=self._client_id, request_timeout_ms=REQUEST_TIMEOUT_MS, **self._kafka.client_settings()
        )
        try:
            async with asyncio.timeout(START_LIMIT_S):
                await client.bootstrap()
        except (KafkaError, TimeoutError) as error:
            await finish_within(STOP_LIMIT_S, client.close())
            raise await unreachable(self._kafka, error) from error
        self._client = client
        return self

    async def __aexit__(self, *_: object) -> None:
        client, self._client = self._client, None
        if client is not None:
            await finish_within(STOP_LIMIT_S, client.close())

    async def allowed(self) -> Collection[Acl]:
        """Every right on a topic or a group that is allowed."""
        response = await self._ask(DescribeAclsRequest(_ANY, _EACH, _ANY, _EACH, _EACH, _ANY, _ALLOW))
        self._check(response.error_code, response.error_message, "DESCRIBE")
        return set(_read(response.resources))

    async def allow(self, acls: Sequence[Acl]) -> None:
        """Add these, and return when the broker that is asked tells of them."""
        for acl in acls:
            response = await self._ask(CreateAclsRequest(*_numbers(acl)))
            for error_code, message in response.creation_responses:
                self._check(error_code, message, "ALTER")
        await self._until_told(set(acls), there=True)

    async def withdraw(self, acls: Sequence[Acl]) -> None:
        """Remove exactly these, and return when the broker that is asked tells of them no more."""
        for acl in acls:
            response = await self._ask(DeleteAclsRequest(*_numbers(acl)))
            for error_code, message, matching in response.filter_responses:
                self._check(error_code, message, "ALTER")
                for one_error_code, one_message, *_ in matching:
                    self._check(one_error_code, one_message, "ALTER")
        await self._until_told(set(acls), there=False)

    async def _until_told(self, acls: set[Acl], *, there: bool) -> None:
        # The controller knows a change a moment before the brokers, which judge by what they know.
        loop = asyncio.get_running_loop()
        deadline = loop.time() + VISIBLE_LIMIT_S
        while True:
            told = acls.intersection(await self.allowed())
            if told == (acls if there else set()):
                return
            if loop.time() >= deadline:
                raise BrokerUnavailableError("rights were changed, but the brokers do not tell of it yet: look again")
            await asyncio.sleep(VISIBLE_BACKOFF_S)

    async def _ask(self, request: Request[Any]) -> Any:
        assert self._client is not None, "use it inside `async with`"
        node_id = self._client.get_random_node()
        try:
            return await self._client.send(node_id, request)
        except KafkaError as error:
            raise BrokerUnavailableError(f"{self._kafka} does not answer about rights: {error!r}") from error

    def _check(self, error_code: int, message: str | None, right: str) -> None:
        error = for_code(error_code)
        if error is NoError:
            return
        if error is SecurityDisabled:
            raise AclsRefusedError(
                f"the brokers at {self._kafka} let everybody do everything: they run without an authorizer; set "
                "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer and super.users there"
            )
        if denied(self._kafka, error, right, "the cluster") is not None:
            raise AclsRefusedError(
                f"Kafka does not let {self._kafka.security.principal} {right} the cluster, which rights are part of: "
                "do this as one of the brokers' super.users, or give it that right"
            )
        raise AclsRefusedError(f"Kafka refuses: {message or error.__name__}")


def _read(resources: Any) -> Iterator[Acl]:
    for resource, name, pattern, acls in resources:
        if resource not in _RESOURCES or pattern not in _PATTERNS:
            continue
        for principal, host, operation, permission in acls:
            if permission == _ALLOW:
                named = _OPERATIONS.get(operation, f"operation {operation}")
                yield Acl(principal, named, _RESOURCES[resource], _PATTERNS[pattern], name, host)


def _numbers(acl: Acl) -> tuple[int, str, int, str, str, int, int]:
    """The fields of a request that adds or removes exactly this right."""
    [resource] = [number for number, name in _RESOURCES.items() if name == acl.resource]
    [pattern] = [number for number, name in _PATTERNS.items() if name == acl.pattern]
    [operation] = [number for number, name in _OPERATIONS.items() if name == acl.operation]
    return resource, acl.name, pattern, acl.principal, acl.host, operation, _ALLOW
