CREATE TABLE ledger.quarantine (
    app text COLLATE "C" NOT NULL,
    partition integer NOT NULL,
    command_offset bigint NOT NULL,
    timestamp_ms bigint NOT NULL,
    quarantined_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    reason text COLLATE "C" NOT NULL,
    detail text COLLATE "C" NOT NULL,
    key bytea,
    value bytea,
    status text COLLATE "C" NOT NULL,
    resolved_at timestamptz,
    resolution text COLLATE "C",
    CONSTRAINT quarantine_pkey PRIMARY KEY (app, partition, command_offset),
    CONSTRAINT quarantine_status_is_known CHECK (status IN ('waiting', 'retried', 'discarded'))
)
