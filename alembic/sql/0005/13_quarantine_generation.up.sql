ALTER TABLE ledger.quarantine
    ADD COLUMN generation integer NOT NULL DEFAULT 1,
    ADD COLUMN retried_as uuid,
    DROP CONSTRAINT quarantine_pkey,
    ADD CONSTRAINT quarantine_pkey PRIMARY KEY (app, partition, generation, command_offset)
