CREATE TABLE account (
    balance bigint NOT NULL CHECK (balance >= 0),
    version bigint NOT NULL,
    owner_id text COLLATE "C" NOT NULL,
    credit_type text COLLATE "C" NOT NULL,
    PRIMARY KEY (owner_id, credit_type)
) WITH (fillfactor = 70)
