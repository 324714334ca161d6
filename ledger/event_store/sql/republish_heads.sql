UPDATE ledger.partition_head SET published_sequence = 0 WHERE partition = ANY ($1::integer[])
