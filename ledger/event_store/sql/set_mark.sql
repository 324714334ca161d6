-- $1 app, $2 partition, $3 to $6 the mark, $7 the generation
INSERT INTO ledger.command_offset
    (app, partition, next_offset, last_offset, last_timestamp_ms, last_digest, generation)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (app, partition) DO UPDATE
SET next_offset = excluded.next_offset, last_offset = excluded.last_offset,
    last_timestamp_ms = excluded.last_timestamp_ms, last_digest = excluded.last_digest,
    generation = excluded.generation
