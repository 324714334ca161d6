-- $1 partition, $2 sequence, $3 hash, $4 when the last event occurred. As if a consumer had claimed the partition once,
-- consumed a command for each event, published them all and gone.
UPDATE ledger.partition_head
SET epoch = 1, sequence = $2, hash = $3, occurred_at = $4, published_sequence = $2, consumed = $2
WHERE partition = $1
