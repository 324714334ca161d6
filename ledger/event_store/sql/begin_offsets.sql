-- The first record of an app on a partition.
INSERT INTO ledger.command_offset (app, partition, next_offset, last_offset, last_timestamp_ms, last_digest)
SELECT * FROM unnest($1::text[], $2::integer[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bytea[])
ON CONFLICT (app, partition) DO NOTHING
