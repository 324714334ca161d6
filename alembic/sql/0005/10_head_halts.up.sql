-- halted_record: the record (app:partition:offset) at which the partition stands; halted_apps: JSON, by app why nothing
-- of that app alone is read there.
ALTER TABLE ledger.partition_head
    ADD COLUMN halted_record text COLLATE "C",
    ADD COLUMN halted_apps text COLLATE "C"
