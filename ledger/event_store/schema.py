"""The schema `ledger`, declared. Migrations make it; a test compares the two."""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Identity,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)

metadata = MetaData(schema="ledger")


def _text(name: str, *, nullable: bool = False) -> Column[str]:
    # Bytes are compared, not words: 27% cheaper keys, and an order that no library upgrade changes.
    return Column(name, Text(collation="C"), nullable=nullable)


ledger_identity = Table(
    "ledger_identity",
    metadata,
    Column("only_row", Boolean, primary_key=True, server_default=text("true")),
    Column("ledger_id", Uuid, nullable=False),
    Column("partitions", Integer, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=text("clock_timestamp()")),
    CheckConstraint("only_row", name="ledger_identity_has_one_row"),
    comment="Which ledger this is, and its number of partitions.",
)

partition_head = Table(
    "partition_head",
    metadata,
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("epoch", BigInteger, nullable=False, server_default=text("0")),
    _text("holder", nullable=True),
    Column("claimed_at", DateTime(timezone=True)),
    Column("seen_at", DateTime(timezone=True)),
    Column("sequence", BigInteger, nullable=False, server_default=text("0")),
    Column("hash", LargeBinary, nullable=False),
    Column("occurred_at", DateTime(timezone=True)),
    Column("published_sequence", BigInteger, nullable=False, server_default=text("0")),
    Column("consumed", BigInteger, nullable=False, server_default=text("0")),
    Column("consumed_at_claim", BigInteger),
    _text("trying", nullable=True),
    Column("trying_claims", SmallInteger, nullable=False, server_default=text("0")),
    _text("halted_because", nullable=True),
    _text("halted_record", nullable=True),
    _text("halted_apps", nullable=True),
    postgresql_with={"fillfactor": "50"},
    comment="The fence of each partition, and where its record ends.",
)

command_offset = Table(
    "command_offset",
    metadata,
    _text("app"),
    Column("partition", Integer, nullable=False),
    Column("next_offset", BigInteger, nullable=False),
    Column("last_offset", BigInteger, nullable=False),
    Column("last_timestamp_ms", BigInteger, nullable=False),
    Column("last_digest", LargeBinary, nullable=False),
    Column("generation", Integer, nullable=False, server_default=text("1")),
    PrimaryKeyConstraint("app", "partition", name="command_offset_pkey"),
    postgresql_with={"fillfactor": "50"},
    comment="How far each command topic is consumed, and what the last consumed record was.",
)

command_generation = Table(
    "command_generation",
    metadata,
    _text("app"),
    Column("partition", Integer, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("first_sequence", BigInteger, nullable=False),
    Column("ended_offset", BigInteger, nullable=False),
    Column("begun_at", DateTime(timezone=True), nullable=False, server_default=text("clock_timestamp()")),
    PrimaryKeyConstraint("app", "partition", "generation", name="command_generation_pkey"),
    comment="Where logs of command topics made anew begin: an event's generation follows from its sequence.",
)

event = Table(
    "event",
    metadata,
    Column("partition", Integer, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("account_version", BigInteger, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("balance_after", BigInteger, nullable=False),
    Column("issued_at", DateTime(timezone=True), nullable=False),
    Column("occurred_at", DateTime(timezone=True), nullable=False),
    Column("command_offset", BigInteger, nullable=False),
    Column("command_id", Uuid, nullable=False),
    _text("app"),
    _text("operation"),
    _text("owner_id"),
    _text("credit_type"),
    _text("nonce"),
    _text("reason", nullable=True),
    _text("detail", nullable=True),
    _text("metadata", nullable=True),
    Column("metadata_digest", LargeBinary),
    Column("hash", LargeBinary, nullable=False),
    PrimaryKeyConstraint("partition", "sequence", name="event_pkey"),
    postgresql_partition_by="RANGE (sequence)",
    comment="The record: one row per readable command, accepted or rejected (reason). Append-only.",
)

command_key = Table(
    "command_key",
    metadata,
    Column("command_id", Uuid, nullable=False),
    Column("scope", Uuid, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    PrimaryKeyConstraint("command_id", "scope", name="command_key_pkey"),
    comment="One event per (app, owner, command id), for ever. scope is a digest of (app, owner).",
)

nonce_key = Table(
    "nonce_key",
    metadata,
    Column("key", Uuid, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    PrimaryKeyConstraint("key", name="nonce_key_pkey"),
    comment="At most one accepted entry per (app, owner, nonce), for ever. key is a digest of the three.",
)

account = Table(
    "account",
    metadata,
    _text("owner_id"),
    _text("credit_type"),
    Column("balance", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),
    PrimaryKeyConstraint("owner_id", "credit_type", name="account_pkey"),
    CheckConstraint("balance >= 0", name="account_is_never_overdrawn"),
    postgresql_with={"fillfactor": "70"},
    comment="What the decider decides on: the state of every account after the head of its partition.",
)

quarantine = Table(
    "quarantine",
    metadata,
    _text("app"),
    Column("partition", Integer, nullable=False),
    Column("command_offset", BigInteger, nullable=False),
    Column("timestamp_ms", BigInteger, nullable=False),
    Column("quarantined_at", DateTime(timezone=True), nullable=False, server_default=text("clock_timestamp()")),
    _text("reason"),
    _text("detail"),
    Column("key", LargeBinary),
    Column("value", LargeBinary),
    _text("status"),
    Column("resolved_at", DateTime(timezone=True)),
    _text("resolution", nullable=True),
    Column("generation", Integer, nullable=False, server_default=text("1")),
    Column("retried_as", Uuid),
    PrimaryKeyConstraint("app", "partition", "generation", "command_offset", name="quarantine_pkey"),
    CheckConstraint("status IN ('waiting', 'retried', 'discarded')", name="quarantine_status_is_known"),
    comment="Messages that cannot be read as commands, byte for byte.",
)

api_key = Table(
    "api_key",
    metadata,
    _text("id"),
    _text("app"),
    Column("scopes", ARRAY(Text(collation="C")), nullable=False),
    Column("digest", LargeBinary, nullable=False),
    _text("label"),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=text("clock_timestamp()")),
    _text("created_by"),
    Column("expires_at", DateTime(timezone=True)),
    Column("last_used_at", DateTime(timezone=True)),
    Column("revoked_at", DateTime(timezone=True)),
    _text("revoked_by", nullable=True),
    PrimaryKeyConstraint("id", name="api_key_pkey"),
    CheckConstraint("octet_length(digest) = 32", name="api_key_digest_is_sha256"),
    CheckConstraint("cardinality(scopes) > 0", name="api_key_opens_something"),
    comment="Who may use the HTTP service, as which app, for what: digests of keys, never deleted.",
)

intervention = Table(
    "intervention",
    metadata,
    Column("number", BigInteger, Identity(always=True), primary_key=True),
    Column("made_at", DateTime(timezone=True), nullable=False, server_default=text("clock_timestamp()")),
    _text("operator"),
    _text("kind"),
    _text("subject"),
    _text("reason"),
    _text("before"),
    _text("after"),
    comment="What operators did by hand, with what was there before and after (JSON). Append-only.",
)
