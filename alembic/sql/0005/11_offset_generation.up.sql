-- How many logs of this name there were: a topic that was made anew uses the same offsets again.
ALTER TABLE ledger.command_offset ADD COLUMN generation integer NOT NULL DEFAULT 1
