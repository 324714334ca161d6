-- Takes partitions from whoever holds them, fenced, and leaves them free to be claimed again with another look. A record
-- that killed its holders is tried alone again.
UPDATE ledger.partition_head
SET epoch = epoch + 1, holder = NULL, halted_because = NULL, halted_record = NULL, halted_apps = NULL,
    consumed_at_claim = CASE WHEN trying IS NULL THEN NULL ELSE consumed END, trying = NULL, trying_claims = 0
WHERE partition = ANY ($1::integer[])
