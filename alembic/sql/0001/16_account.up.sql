CREATE TABLE ledger.account (
    owner_id text COLLATE "C" NOT NULL,
    credit_type text COLLATE "C" NOT NULL,
    balance bigint NOT NULL,
    version bigint NOT NULL,
    CONSTRAINT account_pkey PRIMARY KEY (owner_id, credit_type),
    CONSTRAINT account_is_never_overdrawn CHECK (balance >= 0)
) WITH (fillfactor = 70)
