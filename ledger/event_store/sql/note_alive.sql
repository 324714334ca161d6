-- Of each partition: whether nobody has claimed it since, and if somebody has, whether it is free again (an operator's
-- intervention takes it from its holder and leaves it free). Locks in the order of partitions, as the fence does, and
-- only what is ours: another holder may be frozen.
WITH mine AS (
    SELECT head.partition
    FROM unnest($1::integer[], $2::bigint[]) AS held (partition, epoch)
    JOIN ledger.partition_head AS head ON head.partition = held.partition AND head.epoch = held.epoch
    ORDER BY head.partition
    FOR UPDATE OF head
), alive AS (
    UPDATE ledger.partition_head AS head
    SET seen_at = clock_timestamp()
    FROM mine
    WHERE head.partition = mine.partition
    RETURNING head.partition
)
SELECT head.partition, alive.partition IS NOT NULL AS mine, head.holder IS NULL AS free, clock_timestamp() AS clock
FROM ledger.partition_head AS head
LEFT JOIN alive ON alive.partition = head.partition
WHERE head.partition = ANY ($1::integer[])
