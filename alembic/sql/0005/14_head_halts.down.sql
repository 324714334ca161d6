ALTER TABLE ledger.partition_head DROP COLUMN halted_record, DROP COLUMN halted_apps
