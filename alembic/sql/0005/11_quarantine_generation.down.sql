-- Refused by the key where two generations used the same offset: the quarantine cannot be told apart without it.
ALTER TABLE ledger.quarantine
    DROP CONSTRAINT quarantine_pkey,
    DROP COLUMN generation,
    DROP COLUMN retried_as,
    ADD CONSTRAINT quarantine_pkey PRIMARY KEY (app, partition, command_offset)
