"""How `ledger up` waits for the HTTP service: a halted partition keeps nobody from starting the ledger."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from service.up.readiness import NotReadyError, until_serving

HALT = "partition 5 is halted: the topic was recreated"
FINE: dict[str, object] = {"status": "ready", "consumer_partitions": []}


def failing(**problems: list[str]) -> dict[str, object]:
    return {"status": "not ready", **{part: {"problems": texts} for part, texts in problems.items()}}


async def nobody_to_ask() -> list[str]:
    raise AssertionError("HTTP told it")


@contextmanager
def answering(*bodies: dict[str, object]) -> Iterator[str]:
    """A service whose readiness gives these answers, the last one for ever."""
    left = list(bodies)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = left.pop(0) if len(left) > 1 else left[0]
            self.send_response(200 if body["status"] == "ready" else 503)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


async def test_it_waits_until_all_parts_work() -> None:
    with answering(failing(kafka=["no answer"]), FINE) as url:
        assert await until_serving(url, nobody_to_ask) == []


async def test_a_halt_of_the_run_before_passes_when_the_partition_is_claimed() -> None:
    with answering(failing(ledger_consumer=[HALT]), FINE) as url:
        assert await until_serving(url, nobody_to_ask) == []


async def test_partitions_that_stay_halted_are_told_and_the_others_served() -> None:
    with answering(failing(kafka=[], ledger_consumer=[HALT], projections=[])) as url:
        assert await until_serving(url, nobody_to_ask, halted_sure_s=0.2) == [HALT]


async def test_what_else_is_wrong_ends_the_start_with_its_reason() -> None:
    behind = "balances on partition 3 is 12 s behind"
    long = [f"partition {number} is halted: {'x' * 500}" for number in range(12)]
    with (
        answering(failing(ledger_consumer=long, projections=[behind])) as url,
        pytest.raises(NotReadyError, match=behind),
    ):
        await until_serving(url, nobody_to_ask, limit_s=0.3, halted_sure_s=0.1)


async def test_what_http_tells_holders_of_keys_only_is_asked_for_directly() -> None:
    asked = []

    async def problems() -> list[str]:
        asked.append(1)
        return [HALT] if len(asked) > 1 else [HALT, "balances on partition 3 is behind"]

    with answering({"status": "not ready"}) as url:
        assert await until_serving(url, problems, halted_sure_s=0.2) == [HALT]
    assert len(asked) > 2
