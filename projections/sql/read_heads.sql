SELECT head.partition, head.sequence FROM ledger.partition_head AS head ORDER BY head.partition
