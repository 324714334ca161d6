-- Compare and set: a record is consumed once.
UPDATE ledger.command_offset AS mark
SET next_offset = batch.next_offset,
    last_offset = batch.last_offset,
    last_timestamp_ms = batch.last_timestamp_ms,
    last_digest = batch.last_digest
FROM unnest($1::text[], $2::integer[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bytea[])
    AS batch (app, partition, expected, next_offset, last_offset, last_timestamp_ms, last_digest)
WHERE mark.app = batch.app AND mark.partition = batch.partition AND mark.next_offset = batch.expected
