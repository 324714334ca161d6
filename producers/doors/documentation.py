"""What OpenAPI says about the doors: the key, and the answers that any route can give before its own code runs."""

from collections.abc import Iterator
from typing import Any, Final

from fastapi import FastAPI

from producers.doors.doorkeeper import OPEN_ROUTES, READING_METHODS, DoorPolicy
from producers.doors.key_ring import KeyRing
from producers.http_models import ErrorBody

_SCHEMES: Final[dict[str, Any]] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "lgk_...",
        "description": "An API key, as `ledger keys create` prints it. It decides as which app commands are published.",
    },
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key, in this header."},
}
_ERROR: Final[dict[str, Any]] = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}}
_RETRY_AFTER: Final[dict[str, Any]] = {
    "Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}, "required": True}
}


def _answer(description: str, headers: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"description": description, "content": _ERROR, **({} if headers is None else {"headers": headers})}


_AT_THE_DOOR: Final = {
    "401": _answer(
        "A valid API key is needed.", {"WWW-Authenticate": {"schema": {"type": "string"}, "required": True}}
    ),
    "403": _answer("The API key lacks the scope (`read` or `write`), or is one of an app that may not do this."),
    "429": _answer("The API key has used up what it may do now.", _RETRY_AFTER),
    "503": _answer("Too much is under way, or Kafka or Postgres is away.", _RETRY_AFTER),
}
_ANYWHERE: Final = {"414": _answer("The URL is too long.")}
_WITH_A_BODY: Final = {
    "408": _answer("The body did not arrive in time."),
    "413": _answer("The body is too large."),
}


def document_doors(service: FastAPI, ring: KeyRing, policy: DoorPolicy) -> None:
    """Have the service's OpenAPI document tell about the doors; whether a key is needed as it is when it is asked."""
    made: dict[bool, dict[str, Any]] = {}
    without_doors = service.openapi

    def openapi() -> dict[str, Any]:
        needed = policy.keys == "required" or ring.asks is not False
        if needed not in made:
            service.openapi_schema = None
            made[needed] = _with_doors(without_doors(), needed)
        return made[needed]

    service.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to change the document


def _with_doors(document: dict[str, Any], needed: bool) -> dict[str, Any]:
    components = document.setdefault("components", {})
    components["securitySchemes"] = _SCHEMES
    components.setdefault("schemas", {}).setdefault(
        "ErrorBody", ErrorBody.model_json_schema(ref_template="#/components/schemas/{model}")
    )
    for path, method, operation in _operations(document):
        responses = operation.setdefault("responses", {})
        if path in OPEN_ROUTES:
            additions = _ANYWHERE
            operation["security"] = []
        else:
            additions = _AT_THE_DOOR | _ANYWHERE
            operation["security"] = [{name: []} for name in _SCHEMES] + ([] if needed else [{}])
            scope = "read" if method.upper() in READING_METHODS else "write"
            operation["description"] = f"{operation.get('description', '')}\n\nNeeds the scope `{scope}`.".strip()
        if "requestBody" in operation:
            additions = additions | _WITH_A_BODY
        for status, answer in additions.items():
            # What a route says of a status itself is more telling; its body is the same.
            responses[status] = answer | responses.get(status, {})
    return document


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation
