-- Of each partition: where it ends, and up to where it is published and projected by every read model in use.
SELECT head.partition, head.sequence, least(head.published_sequence, min(checkpoint.sequence)) AS settled
FROM ledger.partition_head AS head
LEFT JOIN (
    projections.read_model AS model
    JOIN projections.checkpoint ON checkpoint.read_model = model.name AND checkpoint.version = model.active_version
) ON checkpoint.partition = head.partition
GROUP BY head.partition
ORDER BY head.partition
