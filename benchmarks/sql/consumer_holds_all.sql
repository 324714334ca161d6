SELECT bool_and(epoch > 0) FROM ledger.partition_head
