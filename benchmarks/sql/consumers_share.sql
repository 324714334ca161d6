-- $1 the processes: whether each of them holds partitions, and all are held by them
SELECT count(DISTINCT holder) FILTER (WHERE holder = ANY ($1::text[])) = cardinality($1::text[])
    AND bool_and(coalesce(holder = ANY ($1::text[]), false))
FROM ledger.partition_head
