SELECT partition, next_offset, last_offset, last_timestamp_ms, last_digest, generation
FROM ledger.command_offset
WHERE app = $1
ORDER BY partition
