"""Everything that the simulation does to the ledger, by name. A run says how often each happened."""

from enum import StrEnum


class Fault(StrEnum):
    """A kind of fault. `docs/simulation.md` says how to add one."""

    # processes
    CRASH = "crash at any moment"
    CRASH_AT_STEP = "crash while waiting for a server"
    FREEZE = "freeze, shorter than a session"
    ZOMBIE = "freeze past the session, then go on"
    ZOMBIE_IN_TRANSACTION = "freeze past the session with a transaction in flight"
    ZOMBIE_IN_PUBLICATION = "freeze past the session with a publication in flight"
    ZOMBIE_IN_CLAIM = "freeze past the session with a claim in flight"
    STOP = "stop on request"
    CLOCK_OF_PROCESS = "a process's clock jumps"
    # groups
    JOIN = "a member joins"
    SESSION_LOST = "a running member loses its session"
    SHUFFLE = "the coordinator rebalances for no reason"
    # Postgres
    STORE_FAILS = "a call to Postgres fails"
    STORE_SLOW = "a call to Postgres takes long"
    COMMIT_LOST_AFTER = "the answer of a commit is lost, committed"
    COMMIT_LOST_BEFORE = "the answer of a commit is lost, not committed"
    POSTGRES_AWAY = "Postgres is away"
    POSTGRES_STOPS_IN_BATCH = "Postgres stops in the middle of a transaction"
    POSTGRES_SLOW = "Postgres is slow for everybody"
    CLOCK_OF_POSTGRES = "the clock of Postgres jumps"
    # Kafka
    BROKER_FAILS = "a call to Kafka fails"
    BROKER_SLOW = "a call to Kafka takes long"
    ACKNOWLEDGEMENT_LOST = "the acknowledgement of a publication is lost"
    ACKNOWLEDGEMENT_LATE = "the acknowledgement of a publication is late"
    KAFKA_AWAY = "Kafka is away"
    KAFKA_SLOW = "Kafka is slow for everybody"
    EVENT_AGAIN = "an event is published a second time"
    EVENTS_LOST = "Kafka loses events that it has acknowledged"
    RECORD_AGAIN = "a record is fetched a second time"
    RETENTION_CONSUMED = "retention removes consumed commands"
    RETENTION_UNCONSUMED = "retention removes commands that nobody decided"
    RETENTION_EVENTS = "retention removes events"
    # clients
    SENT_TWICE = "a producer's retry sends a command twice"
    DELIVERED_LATE = "a command is delivered late"
    SENT_AGAIN = "a client sends the same bytes again"
    ID_USED_AGAIN = "a client uses a command id for something else"
    # input
    UNREADABLE_NULL = "unreadable: no value"
    UNREADABLE_JSON = "unreadable: no JSON"
    UNREADABLE_BYTES = "unreadable: no UTF-8"
    UNREADABLE_KEY = "unreadable: another key"
    UNREADABLE_NO_KEY = "unreadable: no key"
    UNREADABLE_PARTITION = "unreadable: the wrong partition"
    UNREADABLE_FIELD_MISSING = "unreadable: a field is missing"
    UNREADABLE_FIELD_UNKNOWN = "unreadable: an unknown field"
    UNREADABLE_FIELD_TWICE = "unreadable: a field comes twice"
    UNREADABLE_AMOUNT = "unreadable: the amount is no integer"
    UNREADABLE_TEXT = "unreadable: a text that cannot be stored"
    UNREADABLE_METADATA = "unreadable: metadata"
    KILLER = "a record that kills its process every time"
    RAISER = "a record on which deciding raises"
    # read models
    REBUILD = "a read model is rebuilt"
    REBUILD_RESTORED = "a read model is rebuilt as after a restore"
    REBUILD_DIES = "a rebuild dies half-way"
    REFUSED_ROWS = "the tables of a read model refuse an event"
    # operators
    REMEDY_OFFSETS = "an operator goes on behind removed commands"
    REMEDY_KILLER = "an operator lets a killing record be tried again"
    REMEDY_VERSION = "an operator deploys a version that can decide"
    REMEDY_REBUILD = "an operator rebuilds a halted read model"
