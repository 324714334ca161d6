SELECT sequence FROM ledger.partition_head ORDER BY partition
