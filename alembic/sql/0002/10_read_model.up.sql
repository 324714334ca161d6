CREATE TABLE projections.read_model (
    name text COLLATE "C" NOT NULL,
    active_version integer NOT NULL,
    activated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT read_model_pkey PRIMARY KEY (name)
)
