SELECT app, partition, generation, command_offset, timestamp_ms, quarantined_at, reason, detail, status, key, value,
    resolved_at, resolution, retried_as
FROM ledger.quarantine
ORDER BY app, partition, generation, command_offset
