-- Lag in events, and in seconds since the first event that is not yet projected was recorded.
SELECT checkpoint.read_model, checkpoint.version, checkpoint.partition, checkpoint.holder, checkpoint.halted_because,
    checkpoint.sequence, greatest(head.sequence - checkpoint.sequence, 0) AS behind,
    greatest(extract(epoch FROM clock_timestamp() - next.occurred_at), 0)::float8 AS behind_s
FROM projections.read_model AS model
JOIN projections.checkpoint
    ON checkpoint.read_model = model.name AND checkpoint.version = model.active_version
JOIN ledger.partition_head AS head ON head.partition = checkpoint.partition
LEFT JOIN ledger.event AS next
    ON next.partition = checkpoint.partition AND next.sequence = checkpoint.sequence + 1
ORDER BY checkpoint.read_model, checkpoint.partition
