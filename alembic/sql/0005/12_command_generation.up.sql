-- Where a later generation of an app's log begins: events from first_sequence on are of it, and the one before ended at
-- ended_offset. That an event's generation follows from its sequence costs the hot path nothing.
CREATE TABLE ledger.command_generation (
    app text COLLATE "C" NOT NULL,
    partition integer NOT NULL,
    generation integer NOT NULL,
    first_sequence bigint NOT NULL,
    ended_offset bigint NOT NULL,
    begun_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT command_generation_pkey PRIMARY KEY (app, partition, generation)
)
