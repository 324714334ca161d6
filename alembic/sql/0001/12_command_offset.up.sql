CREATE TABLE ledger.command_offset (
    app text COLLATE "C" NOT NULL,
    partition integer NOT NULL,
    next_offset bigint NOT NULL,
    last_offset bigint NOT NULL,
    last_timestamp_ms bigint NOT NULL,
    last_digest bytea NOT NULL,
    CONSTRAINT command_offset_pkey PRIMARY KEY (app, partition)
) WITH (fillfactor = 50)
