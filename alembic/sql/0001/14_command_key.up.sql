CREATE TABLE ledger.command_key (
    command_id uuid NOT NULL,
    scope uuid NOT NULL,
    partition integer NOT NULL,
    sequence bigint NOT NULL,
    CONSTRAINT command_key_pkey PRIMARY KEY (command_id, scope)
)
