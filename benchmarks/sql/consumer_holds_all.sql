-- $1 the process
SELECT bool_and(holder IS NOT DISTINCT FROM $1) FROM ledger.partition_head
