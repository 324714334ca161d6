"""Modelled clients: they submit commands, send them again until they have seen an outcome, and make every mistake.

All is drawn before the run begins: leaving one command out changes no other.
"""

import asyncio
import json
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any, Final

from ledger.messages.partitioning import partition_of
from tests.simulation.fault_kinds import Fault

if TYPE_CHECKING:
    from tests.simulation.world import World

FIRST_WAIT_S: Final = 1.0
"""As `submit` does: the same bytes again after 1, 2, 4 ... s."""

EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC)
_OPERATIONS: Final = (
    "CREDIT_ADD",
    "CREDIT_ADD",
    "CREDIT_ADD",
    "CREDIT_SPEND",
    "CREDIT_SPEND",
    "DAILY_REWARD",
    "CONTENT_CREATION",
    "FLY",
)

_BURSTS: Final = (1, 1, 1, 4)
_BURST_MEAN: Final = sum(_BURSTS) / len(_BURSTS)

Answer = tuple[str, str, str]
"""App, owner, command id: what a waiter matches."""


@dataclass(slots=True)
class Submission:
    """What a client wants, and what happens to it on its way."""

    number: str
    at_s: float
    app: str
    key: bytes | None
    value: bytes | None
    answer: Answer | None
    partition: int | None = None
    """Where a partitioner that is wrong puts it."""
    fault: Fault | None = None
    """The mistake that it is."""
    delays_s: tuple[float, ...] = (0.0,)
    """When the copies of the first sending arrive."""
    tries_max: int = 1


@dataclass
class Clients:
    """All clients of one seed."""

    world: "World"
    random: Random
    plan: list[Submission] = field(default_factory=list)
    answered: dict[Answer, int] = field(default_factory=dict)
    """How many answers were seen."""
    sent: dict[Answer, Submission] = field(default_factory=dict)

    def begin(self) -> float:
        """Draw everything and start the clocks; when the last command is sent."""
        random = self.random
        mean_s = self.world.load_s / self.world.commands * _BURST_MEAN
        at_s = 0.0
        while len(self.plan) < self.world.commands:
            at_s += random.expovariate(1 / mean_s)
            for _ in range(random.choice(_BURSTS)):
                self.plan.append(self._draw(f"c{len(self.plan)}", at_s))
        self._add_poison(at_s)
        loop = asyncio.get_running_loop()
        for submission in self.plan:
            loop.call_at(submission.at_s, self._submit, submission)
        return at_s

    def saw(self, answer: Answer) -> None:
        """An event or a replay with this answer was published."""
        self.answered[answer] = self.answered.get(answer, 0) + 1

    def ask_again(self, limit: int) -> dict[Answer, int]:
        """Send again some commands that were answered; how often they were until now."""
        known = [answer for answer in self.answered if answer in self.sent]
        asked = self.random.sample(known, min(limit, len(known)))
        self.resend(asked)
        return {answer: self.answered[answer] for answer in asked}

    def resend(self, answers: Iterable[Answer]) -> None:
        """Send these bytes again."""
        for answer in answers:
            if answer in self.sent:
                submission = self.sent[answer]
                self.world.send(submission.app, submission.key, submission.value)

    def send_new(self) -> list[Answer]:
        """A command for each partition that has an owner; what must be answered."""
        asked: dict[int, Answer] = {}
        for owner in self.world.owners:
            partition = partition_of(owner.encode(), self.world.partitions)
            if partition not in asked:
                body = self._body(owner, asyncio.get_running_loop().time())
                asked[partition] = (self.world.apps[0], owner, body["command_id"])
                self.world.send(self.world.apps[0], owner.encode(), json.dumps(body).encode())
        return list(asked.values())

    # ---- drawing ----

    def _draw(self, number: str, at_s: float) -> Submission:
        random = self.random
        app = random.choice(self.world.apps)
        owner = random.choice(self.world.owners)
        body = self._body(owner, at_s)
        kind, place, tries = random.random(), random.random(), random.choice((1, 1, 3, 5))
        arrives_s = tuple(
            random.uniform(0.1, 8) if random.random() < 0.08 else 0.0 for _ in range(2 if random.random() < 0.06 else 1)
        )
        earlier = [one for one in self.plan if one.answer is not None]
        if kind < 0.12:
            return self._unreadable(number, at_s, app, owner, body)
        if kind < 0.3 and earlier:
            copied = earlier[int(place * len(earlier))]
            value, fault = copied.value, Fault.SENT_AGAIN
            if kind < 0.16:
                value = json.dumps({**json.loads(value or b""), "amount": 77, "operation": "CREDIT_ADD"}).encode()
                fault = Fault.ID_USED_AGAIN
            return Submission(number, at_s, copied.app, copied.key, value, copied.answer, fault=fault)
        return Submission(
            number,
            at_s,
            app,
            owner.encode(),
            json.dumps(body).encode(),
            (app, owner, body["command_id"]),
            delays_s=arrives_s,
            tries_max=tries,
        )

    def _body(self, owner: str, at_s: float) -> dict[str, Any]:
        random = self.random
        operation, now = random.choice(_OPERATIONS), EPOCH + timedelta(seconds=at_s)
        body: dict[str, Any] = {
            "command_id": str(uuid.UUID(int=random.getrandbits(128), version=4)),
            "operation": operation,
            "owner_id": owner,
            "nonce": f"nonce-{random.randint(0, 25)}",
            "issued_at": now.isoformat(),
        }
        if operation.startswith("CREDIT") and random.random() < 0.8:
            wrong = random.random() < 0.1
            body["amount"] = random.randint(1, 30) * (-1 if (operation == "CREDIT_SPEND") != wrong else 1)
        if random.random() < 0.1:
            body["not_after"] = (now + timedelta(seconds=random.uniform(0, 3))).isoformat()
        if random.random() < 0.2:
            body["metadata"] = {"note": "x"}
        if random.random() < 0.02:
            body["credit_type"] = "gems"
        return body

    def _unreadable(self, number: str, at_s: float, app: str, owner: str, body: dict[str, Any]) -> Submission:
        key: bytes | None = owner.encode()
        fault = self.random.choice(list(_UNREADABLE))
        value = _UNREADABLE[fault](body)
        partition: int | None = partition_of(owner.encode(), self.world.partitions)
        if fault is Fault.UNREADABLE_KEY:
            key = b"another key"
        elif fault is Fault.UNREADABLE_NO_KEY:
            key = None
        elif fault is Fault.UNREADABLE_PARTITION:
            if self.world.partitions == 1:
                fault, value = Fault.UNREADABLE_NULL, None
            assert partition is not None
            partition = (partition + 1) % self.world.partitions
        return Submission(number, at_s, app, key, value, None, partition=partition, fault=fault)

    def _add_poison(self, last_s: float) -> None:
        operation = {Fault.KILLER: "KILL", Fault.RAISER: "RAISE"}.get(self.world.poison) if self.world.poison else None
        if operation is None:
            return
        at_s, owner, app = self.random.uniform(0, last_s), self.random.choice(self.world.owners), self.world.apps[0]
        body = {**self._body(owner, at_s), "operation": operation}
        body.pop("amount", None)
        answer = (app, owner, body["command_id"])
        value = json.dumps(body).encode()
        self.plan.append(Submission("poison", at_s, app, owner.encode(), value, answer, fault=self.world.poison))

    # ---- sending ----

    def _submit(self, submission: Submission) -> None:
        if not self.world.chance.keeps(submission.number):
            return
        what = submission.fault.value if submission.fault else (submission.answer or ("",))[-1]
        self.world.say(f"[{submission.number}] {submission.app} sends {(submission.key or b'-').decode()}: {what}")
        if submission.fault is not None:
            self.world.chance.happened(submission.fault)
        if len(submission.delays_s) > 1:
            self.world.chance.happened(Fault.SENT_TWICE)
        loop = asyncio.get_running_loop()
        for delay_s in submission.delays_s:
            if delay_s:
                self.world.chance.happened(Fault.DELIVERED_LATE)
            loop.call_later(delay_s, self._deliver, submission)
        if submission.tries_max > 1:
            loop.call_later(FIRST_WAIT_S, self._try_again, submission, 1)

    def _deliver(self, submission: Submission) -> None:
        if not self.world.broker.available:  # a producer goes on trying
            asyncio.get_running_loop().call_later(0.5, self._deliver, submission)
            return
        self.world.send(submission.app, submission.key, submission.value, submission.partition)
        if submission.answer is not None:
            self.sent.setdefault(submission.answer, submission)

    def _try_again(self, submission: Submission, tries: int) -> None:
        if submission.answer in self.answered or self.world.settling:
            return
        self.world.chance.happened(Fault.SENT_AGAIN)
        self._deliver(submission)
        if tries + 1 < submission.tries_max:
            wait_s = FIRST_WAIT_S * 2**tries
            asyncio.get_running_loop().call_later(wait_s, self._try_again, submission, tries + 1)


def _encoded(body: dict[str, Any], **changes: Any) -> bytes:
    return json.dumps({**body, **changes}).encode()


_UNREADABLE: Final[dict[Fault, Callable[[dict[str, Any]], bytes | None]]] = {
    Fault.UNREADABLE_NULL: lambda body: None,
    Fault.UNREADABLE_JSON: lambda body: _encoded(body)[:-1],
    Fault.UNREADABLE_BYTES: lambda body: _encoded(body) + b"\xff",
    Fault.UNREADABLE_KEY: _encoded,
    Fault.UNREADABLE_NO_KEY: _encoded,
    Fault.UNREADABLE_PARTITION: _encoded,
    Fault.UNREADABLE_FIELD_MISSING: lambda body: _encoded({k: v for k, v in body.items() if k != "nonce"}),
    Fault.UNREADABLE_FIELD_UNKNOWN: lambda body: _encoded(body, amonut=5),
    Fault.UNREADABLE_FIELD_TWICE: lambda body: _encoded(body)[:-1] + b', "nonce": "again"}',
    Fault.UNREADABLE_AMOUNT: lambda body: _encoded(body, amount=5.0),
    Fault.UNREADABLE_TEXT: lambda body: _encoded(body, nonce="a\0b"),
    Fault.UNREADABLE_METADATA: lambda body: _encoded(body, metadata=[1]),
}
"""A good command made unreadable; where key or partition are wrong, the value is good."""
