UPDATE ledger.partition_head SET published_sequence = greatest(published_sequence, $3)
WHERE partition = $1 AND epoch = $2
