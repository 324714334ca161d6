SELECT app, partition, command_offset, generation, timestamp_ms, quarantined_at, reason, detail, key, value, status,
    resolved_at, resolution
FROM ledger.quarantine
WHERE app = $1 AND partition = $2 AND generation = $3 AND command_offset = $4
