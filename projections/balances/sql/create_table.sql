-- Room is left in each page, so that most updates find a place beside the old row and touch no index.
CREATE TABLE projections.balances_v{version} (
    balance bigint NOT NULL,
    account_version bigint NOT NULL,
    last_updated timestamptz NOT NULL,
    owner_id text COLLATE "C" NOT NULL,
    credit_type text COLLATE "C" NOT NULL,
    PRIMARY KEY (owner_id, credit_type)
) WITH (fillfactor = 70)
