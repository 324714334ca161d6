CREATE TABLE entry (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    command_id uuid NOT NULL,
    amount bigint NOT NULL,
    balance_after bigint NOT NULL,
    app text COLLATE "C" NOT NULL,
    operation text COLLATE "C" NOT NULL,
    owner_id text COLLATE "C" NOT NULL,
    nonce text COLLATE "C" NOT NULL,
    UNIQUE (app, owner_id, nonce),
    UNIQUE (app, owner_id, command_id)
)
