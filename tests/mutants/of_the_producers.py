"""How apps publish and learn what became of it: order, retries, answers, imports."""

from typing import Final

from tests.mutants.mutant import Mutant

_TAIL: Final = "ledger/broker/tail_reader.py"
_QUEUE: Final = "producers/send_queue.py"
_WAIT: Final = "producers/outcome_wait.py"
_CLIENT: Final = "producers/client.py"
_HTTP: Final = "producers/http_answers.py"
_KEYS: Final = "producers/idempotency.py"
_IMPORTER: Final = "service/importing/importer.py"
_PUBLISHER: Final = "ledger/broker/kafka_publisher.py"
_TEST_TAIL: Final = "tests/contract/test_broker_tail_reader.py"
_TEST_CLIENT: Final = "tests/unit/test_producers_client.py"
_TEST_SUBMIT: Final = "tests/unit/test_producers_submit.py"
_TEST_HTTP: Final = "tests/contract/test_http_commands.py"
_TEST_IMPORTER: Final = "tests/unit/test_cli_importer.py"
_TEST_PUBLISHER: Final = "tests/contract/test_broker_publisher.py"

MUTANTS: Final = (
    Mutant(
        "answer-of-the-app-and-the-owner",
        "An outcome is matched by app, owner and command id.",
        "8",
        _TAIL,
        "waiting[record.key].get((event.app, event.command_id), ())",
        "[one for key, ones in waiting[record.key].items() if key[1] == event.command_id for one in ones]",
        (_TEST_TAIL,),
    ),
    Mutant(
        "tail-begins-at-the-ends",
        "A waiter's end positions on both topics are fixed before the first publish.",
        "8",
        _TAIL,
        "        try:\n            await self._begin_at_ends()\n",
        "        try:\n"
        "            later = asyncio.get_running_loop().call_later\n"
        "            later(0.2, lambda: asyncio.ensure_future(self._begin_at_ends()))\n",
        (_TEST_TAIL,),
    ),
    Mutant(
        "waiter-registered-before-the-publish",
        "A waiter is registered before its command is published: no quick answer passes unseen.",
        "8",
        _CLIENT,
        "        await wait.register()\n        try:\n            [sending] = await queue.put([prepared], limit)\n",
        "        try:\n            [sending] = await queue.put([prepared], limit)\n"
        "            await asyncio.sleep(0.01)\n            await wait.register()\n",
        (_TEST_SUBMIT,),
    ),
    Mutant(
        "events-that-passed-unseen-are-told",
        "A waiter whose answer may have passed unseen is told so, and asks again.",
        "8",
        _TAIL,
        '                    self._fail_waiters(TailReadError(f"events may have passed unseen: {lost}"))\n',
        "",
        (_TEST_TAIL,),
    ),
    Mutant(
        "same-bytes-sent-again",
        "While no answer comes the same bytes are sent again: the first decision comes back as a replay.",
        "8",
        _WAIT,
        "                [sending] = await self._queue.put([self.prepared], left_s)\n",
        "",
        (_TEST_SUBMIT,),
    ),
    Mutant(
        "unknown-outcome-is-said",
        "An answer that does not come in time is an unknown outcome, with the id to ask again, not an error as if "
        "nothing had been sent.",
        "accepted asynchronously and then 404",
        _WAIT,
        'raise self._unknown("the ledger did not answer in time")',
        'raise KafkaUnavailable("the ledger did not answer in time")',
        (_TEST_SUBMIT,),
    ),
    Mutant(
        "one-batch-unacknowledged",
        "Of two publications made one after another the second gets the higher offset: one batch at a time.",
        "4",
        _QUEUE,
        "                await self._publish(partition, batch)\n",
        "                asyncio.get_running_loop().create_task(self._publish(partition, batch))\n",
        (_TEST_CLIENT,),
    ),
    Mutant(
        "withdrawn-is-never-sent",
        "A cancelled call that was not handed over to Kafka is never sent.",
        "retries",
        _QUEUE,
        "        if sending in waiting:\n            del waiting[sending]\n",
        "        if sending in waiting:\n",
        (_TEST_CLIENT,),
    ),
    Mutant(
        "in-doubt-is-said",
        "A command that Kafka did not acknowledge is in doubt, not unsent: whoever retries uses its id.",
        "retries",
        _QUEUE,
        "                self._finish(sending, _in_doubt(sending, str(error)))\n",
        "                self._finish(sending, _not_published(sending, str(error)))\n",
        (_TEST_CLIENT,),
    ),
    Mutant(
        "commands-that-wait-are-bounded",
        "A caller waits for room in the buffer: memory is bounded while Kafka is away.",
        "memory is bounded",
        _QUEUE,
        "if self._buffered >= BUFFERED_RECORDS_MAX and not await self._wait_for_room(wait_s):",
        "if False:",
        (_TEST_CLIENT,),
    ),
    Mutant(
        "failed-producer-is-replaced",
        "A failed publication is the end of its producer; the next one goes through another.",
        "4",
        "producers/reopening_publisher.py",
        "            if self._current is publisher:\n",
        "            if False:\n",
        (_TEST_CLIENT,),
    ),
    Mutant(
        "publisher-ends-at-its-first-failure",
        "An idempotent producer that failed once publishes nothing more: an old batch could land behind newer ones.",
        "4, 10",
        _PUBLISHER,
        "        if self._failure is None:\n            self._failure = failure\n",
        "        if self._failure is None:\n",
        (_TEST_PUBLISHER,),
    ),
    Mutant(
        "cancelled-publication-ends-the-publisher",
        "A cancelled publication ends its producer: a later batch must not overtake the one under way.",
        "4, 10",
        _PUBLISHER,
        '            self._end(f"a publication to {topic}[{partition}] was cancelled")\n',
        "",
        (_TEST_PUBLISHER,),
    ),
    Mutant(
        "all-in-sync-replicas",
        "A publication counts when all in-sync replicas have it, and a resend is written once.",
        "1",
        _PUBLISHER,
        'enable_idempotence=True,\n            acks="all",',
        "enable_idempotence=False,\n            acks=1,",
        ("tests/unit/test_broker_settings.py",),
    ),
    Mutant(
        "only-committed-transactions-are-read",
        "Records of an aborted transaction are not commands.",
        "3",
        "ledger/broker/fetched_records.py",
        "if self._is_aborted_or_control(batch):",
        "if batch.is_control_batch:",
        ("tests/unit/test_broker_fetched_records.py",),
    ),
    Mutant(
        "damaged-batch-is-told",
        "A batch whose checksum is wrong is not read as commands.",
        "3",
        "ledger/broker/fetched_records.py",
        "if not batch.validate_crc():",
        "if False:",
        ("tests/unit/test_broker_fetched_records.py",),
    ),
    Mutant(
        "what-cannot-be-read-is-not-sent",
        "NaN in metadata is refused before it is sent: the encoder would write null.",
        "3",
        "producers/command_request.py",
        "            _refuse_nan(request.metadata)\n",
        "            pass\n",
        (_TEST_CLIENT, "tests/properties/test_producers_commands.py"),
    ),
    Mutant(
        "idempotency-key-is-the-command",
        "The same Idempotency-Key is the same command: a retry over HTTP has no second effect.",
        "no idempotency on writes",
        _HTTP,
        "None if idempotency_key is None else command_id_of_key(self.app, request.owner_id, idempotency_key)\n",
        "None\n",
        (_TEST_HTTP,),
    ),
    Mutant(
        "idempotency-key-of-another-request",
        "The same Idempotency-Key with another request is refused.",
        "no idempotency on writes",
        _HTTP,
        "difference(request, event, self._rules) if keyed else None",
        "None",
        (_TEST_HTTP,),
    ),
    Mutant(
        "commands-of-a-batch-have-their-own-ids",
        "The commands of a batch under one Idempotency-Key are told apart.",
        "no idempotency on writes",
        _KEYS,
        "*([] if index is None else [str(index)])",
        "*([])",
        (_TEST_HTTP,),
    ),
    Mutant(
        "answered-position-is-noted",
        "A position is noted before it is answered: the next read shows the write.",
        "read-your-writes",
        _HTTP,
        "        self._note_position(event.position, event.owner_id)\n",
        "",
        (_TEST_HTTP,),
    ),
    Mutant(
        "nothing-published-while-the-record-is-away",
        "While Postgres is away HTTP publishes nothing and says so.",
        "accepted asynchronously and then 404",
        _HTTP,
        "if trouble is not None:",
        "if False:",
        (_TEST_HTTP,),
    ),
    Mutant(
        "json-of-http-is-strict",
        "A body that gives a field twice, or a number where a text must be, is 422 and nothing is sent.",
        "3",
        "producers/strict_json_route.py",
        "handler(_StrictRequest(request.scope, request.receive))",
        "handler(request)",
        (_TEST_HTTP,),
    ),
    Mutant(
        "body-has-a-size",
        "A body beyond the limit is refused.",
        "limits",
        "producers/http_router.py",
        "max_body_size=BODY_BYTES_MAX, ",
        "",
        (_TEST_HTTP,),
    ),
    Mutant(
        "row-is-its-file-and-line",
        "A row's command id follows from the file and the line: importing a file again adds nothing.",
        "7",
        _IMPORTER,
        "return derived_command_id(digest, str(line))",
        "return derived_command_id(str(line))",
        ("tests/unit/test_cli_import_rows.py",),
    ),
    Mutant(
        "rows-of-an-owner-in-order",
        "Of one owner only one row is on its way at a time.",
        "4",
        _IMPORTER,
        "        owner_id = row.request.owner_id\n",
        "        owner_id = str(row.line)\n",
        (_TEST_IMPORTER,),
    ),
    Mutant(
        "import-stops-at-a-row-without-an-outcome",
        "After a row that got no outcome no later row of its owner is sent.",
        "4",
        _IMPORTER,
        "                waiting.outcome.set_exception(error)\n                return\n",
        "                waiting.outcome.set_exception(error)\n",
        (_TEST_IMPORTER,),
    ),
    Mutant(
        "retried-row-keeps-its-id",
        "A row that is tried again carries the same command id.",
        "7",
        _IMPORTER,
        "command_id=row_command_id(self._digest, line),",
        "command_id=None,",
        (_TEST_IMPORTER,),
    ),
)
