-- $3 whether the partitions are given up: then nobody holds them
UPDATE ledger.partition_head AS head
SET consumed_at_claim = NULL, trying = NULL, trying_claims = 0, holder = CASE WHEN $3 THEN NULL ELSE head.holder END
FROM unnest($1::integer[], $2::bigint[]) AS mine (partition, epoch)
WHERE head.partition = mine.partition AND head.epoch = mine.epoch
