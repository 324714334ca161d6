CREATE TABLE projections.checkpoint (
    read_model text COLLATE "C" NOT NULL,
    version integer NOT NULL,
    partition integer NOT NULL,
    epoch bigint NOT NULL DEFAULT 0,
    sequence bigint NOT NULL DEFAULT 0,
    next_offset bigint,
    claimed_at timestamptz,
    hash bytea NOT NULL,
    holder text COLLATE "C",
    halted_because text COLLATE "C",
    CONSTRAINT checkpoint_pkey PRIMARY KEY (read_model, version, partition)
) WITH (fillfactor = 50)
