-- Locks in the order of partitions, as the fence does.
SELECT partition, epoch, holder, sequence, published_sequence, consumed, trying, trying_claims, halted_because,
    halted_record, halted_apps
FROM ledger.partition_head
WHERE partition = ANY ($1::integer[])
ORDER BY partition
FOR UPDATE
