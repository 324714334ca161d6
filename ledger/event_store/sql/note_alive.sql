-- Locks in the order of partitions, as the fence does.
WITH mine AS (
    SELECT head.partition
    FROM unnest($1::integer[], $2::bigint[]) AS held (partition, epoch)
    JOIN ledger.partition_head AS head ON head.partition = held.partition AND head.epoch = held.epoch
    ORDER BY head.partition
    FOR UPDATE OF head
)
UPDATE ledger.partition_head AS head
SET seen_at = clock_timestamp()
FROM mine
WHERE head.partition = mine.partition
RETURNING head.partition
