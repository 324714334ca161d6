"""The command as a pydantic model: what HTTP bodies and the producers' calls are checked against, and documented by."""

from datetime import UTC, datetime
from typing import Annotated, Any, Self
from uuid import UUID

import msgspec
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import from_json

from ledger.domain.command import Command
from ledger.domain.limits import (
    CREDIT_TYPE_CHARACTERS_MAX,
    DEFAULT_CREDIT_TYPE,
    NONCE_CHARACTERS_MAX,
    OPERATION_CHARACTERS_MAX,
    OWNER_ID_CHARACTERS_MAX,
)
from ledger.messages.field_names import repeated_field
from ledger.messages.metadata import metadata_error


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not contain NUL")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("must not contain lone surrogates") from error
    return text


def _time(value: object) -> object:
    # RFC 3339 only, as the hot decoder reads it: pydantic alone would also take numbers and dates without a zone.
    if isinstance(value, str):
        try:
            value = msgspec.convert(value, datetime)
        except msgspec.ValidationError as error:
            raise ValueError(str(error)) from error
    return value


def _in_utc(time: datetime) -> datetime:
    if time.tzinfo is None:
        raise ValueError("needs a time zone, for example 2026-01-31T12:00:00Z")
    try:
        return time.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("lies outside the years 1 to 9999 in UTC") from error


def _uuid(value: object) -> object:
    if isinstance(value, str):
        try:
            value = msgspec.convert(value, UUID)
        except msgspec.ValidationError as error:
            raise ValueError(str(error)) from error
    return value


OwnerId = Annotated[
    str, Field(min_length=1, max_length=OWNER_ID_CHARACTERS_MAX, examples=["user-42"]), AfterValidator(_without_nul)
]
Nonce = Annotated[
    str, Field(min_length=1, max_length=NONCE_CHARACTERS_MAX, examples=["order-1001"]), AfterValidator(_without_nul)
]
OperationName = Annotated[
    str,
    Field(min_length=1, max_length=OPERATION_CHARACTERS_MAX, examples=["CREDIT_ADD"]),
    AfterValidator(_without_nul),
]
CreditType = Annotated[
    str, Field(min_length=1, max_length=CREDIT_TYPE_CHARACTERS_MAX, examples=["credits"]), AfterValidator(_without_nul)
]
Amount = Annotated[int, Field(ge=-(2**63), le=2**63 - 1, examples=[10])]
Time = Annotated[datetime, BeforeValidator(_time), AfterValidator(_in_utc)]


class CommandModel(BaseModel):
    """A command as an app sends it (source: docs/reference.md)."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    command_id: Annotated[UUID, BeforeValidator(_uuid)]
    operation: OperationName
    owner_id: OwnerId
    nonce: Nonce
    issued_at: Time
    amount: Amount = None  # type: ignore[assignment]  # absent is allowed, null is not
    credit_type: CreditType = DEFAULT_CREDIT_TYPE
    not_after: Time = None  # type: ignore[assignment]  # absent is allowed, null is not
    metadata: dict[str, Any] = None  # type: ignore[assignment]  # absent is allowed, null is not

    _metadata_text: str | None = None

    @model_validator(mode="after")
    def _check_metadata(self) -> Self:
        if self.metadata is not None and self._metadata_text is None:
            try:
                text = msgspec.json.encode(self.metadata)
            except (TypeError, ValueError, RecursionError) as error:
                raise ValueError(f"metadata cannot be written as JSON: {error}") from error
            error_text = metadata_error(text)
            if error_text is not None:
                raise ValueError(error_text)
            self._metadata_text = text.decode()
        return self

    @classmethod
    def from_json(cls, value: bytes) -> "CommandModel":
        """Read the value of a message; the metadata's text stays as it was sent.

        Raises:
            ValueError: the value is no readable command (pydantic's ValidationError is one).
        """
        fields = from_json(value, allow_inf_nan=False)
        repeated = repeated_field(value) if isinstance(fields, dict) else None
        if repeated is not None:
            raise ValueError(f"the field {repeated!r} is given twice")
        raw_metadata = None
        if isinstance(fields, dict) and isinstance(fields.get("metadata"), dict):
            raw_metadata = bytes(msgspec.json.decode(value, type=dict[str, msgspec.Raw])["metadata"])
            error_text = metadata_error(raw_metadata)
            if error_text is not None:
                raise ValueError(error_text)
        model = cls.model_validate(fields)
        if raw_metadata is not None:
            model._metadata_text = raw_metadata.decode()
        return model

    def command(self, app: str) -> Command:
        """The command, as the app that sends it."""
        return Command(
            app,
            self.command_id,
            self.operation,
            self.owner_id,
            self.nonce,
            self.issued_at,
            self.amount,
            self.credit_type,
            self.not_after,
            self._metadata_text,
        )
