-- Numbers and times before texts: no padding between them.
CREATE TABLE projections.statements_v{version} (
    partition integer NOT NULL,
    accepted boolean NOT NULL,
    sequence bigint NOT NULL,
    amount bigint NOT NULL,
    balance_after bigint NOT NULL,
    account_version bigint NOT NULL,
    occurred_at timestamptz NOT NULL,
    command_id uuid NOT NULL,
    owner_id text COLLATE "C" NOT NULL,
    credit_type text COLLATE "C" NOT NULL,
    app text COLLATE "C" NOT NULL,
    operation text COLLATE "C" NOT NULL,
    nonce text COLLATE "C" NOT NULL,
    reason text COLLATE "C",
    detail text COLLATE "C"
)
