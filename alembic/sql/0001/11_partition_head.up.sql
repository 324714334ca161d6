CREATE TABLE ledger.partition_head (
    partition integer PRIMARY KEY,
    epoch bigint NOT NULL DEFAULT 0,
    holder text COLLATE "C",
    claimed_at timestamptz,
    seen_at timestamptz,
    sequence bigint NOT NULL DEFAULT 0,
    hash bytea NOT NULL,
    occurred_at timestamptz,
    published_sequence bigint NOT NULL DEFAULT 0,
    consumed bigint NOT NULL DEFAULT 0,
    consumed_at_claim bigint,
    trying text COLLATE "C",
    trying_claims smallint NOT NULL DEFAULT 0,
    halted_because text COLLATE "C"
) WITH (fillfactor = 50)
