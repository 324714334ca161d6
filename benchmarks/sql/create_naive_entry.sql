-- What an entry has to tell for ever, as in the ledger but for hash and offset.
CREATE TABLE entry (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_version bigint NOT NULL,
    amount bigint NOT NULL,
    balance_after bigint NOT NULL,
    issued_at timestamptz NOT NULL,
    occurred_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    command_id uuid NOT NULL,
    app text COLLATE "C" NOT NULL,
    operation text COLLATE "C" NOT NULL,
    owner_id text COLLATE "C" NOT NULL,
    credit_type text COLLATE "C" NOT NULL,
    nonce text COLLATE "C" NOT NULL,
    metadata text COLLATE "C",
    CONSTRAINT entry_nonce_key UNIQUE (app, owner_id, nonce),
    CONSTRAINT entry_command_id_key UNIQUE (app, owner_id, command_id)
)
