-- $1 app or NULL, $2 status or NULL, $3 to $6 the id behind which to go on, $7 at most so many
SELECT app, partition, command_offset, generation, timestamp_ms, quarantined_at, reason, detail, key, value, status,
    resolved_at, resolution
FROM ledger.quarantine
WHERE app = coalesce($1::text, app) AND status = coalesce($2::text, status)
    AND (app, partition, generation, command_offset) > ($3::text, $4::integer, $5::integer, $6::bigint)
ORDER BY app, partition, generation, command_offset
LIMIT $7
