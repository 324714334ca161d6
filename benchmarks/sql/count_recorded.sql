SELECT coalesce(sum(sequence), 0)::bigint FROM ledger.partition_head
