-- $1 partitions, $2 epochs. Locks in the order of partitions, so that two holders cannot wait for each other.
SELECT head.partition, clock_timestamp() AS clock
FROM ledger.partition_head AS head
JOIN unnest($1::integer[], $2::bigint[]) AS mine (partition, epoch) ON mine.partition = head.partition
WHERE head.epoch = mine.epoch
ORDER BY head.partition
FOR UPDATE OF head
