ALTER TABLE ledger.command_offset DROP COLUMN generation
