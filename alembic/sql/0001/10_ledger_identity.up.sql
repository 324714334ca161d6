CREATE TABLE ledger.ledger_identity (
    only_row boolean DEFAULT true PRIMARY KEY,
    ledger_id uuid NOT NULL,
    partitions integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT ledger_identity_has_one_row CHECK (only_row)
)
