-- Numbers and times before texts: no padding between them.
CREATE TABLE ledger.event (
    partition integer NOT NULL,
    sequence bigint NOT NULL,
    account_version bigint NOT NULL,
    amount bigint NOT NULL,
    balance_after bigint NOT NULL,
    issued_at timestamptz NOT NULL,
    occurred_at timestamptz NOT NULL,
    command_offset bigint NOT NULL,
    command_id uuid NOT NULL,
    app text COLLATE "C" NOT NULL,
    operation text COLLATE "C" NOT NULL,
    owner_id text COLLATE "C" NOT NULL,
    credit_type text COLLATE "C" NOT NULL,
    nonce text COLLATE "C" NOT NULL,
    reason text COLLATE "C",
    detail text COLLATE "C",
    metadata text COLLATE "C",
    metadata_digest bytea,
    hash bytea NOT NULL,
    CONSTRAINT event_pkey PRIMARY KEY (partition, sequence)
) PARTITION BY RANGE (sequence)
