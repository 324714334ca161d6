INSERT INTO ledger.quarantine
    (app, partition, command_offset, timestamp_ms, reason, detail, key, value, status, generation)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'waiting', $9)
