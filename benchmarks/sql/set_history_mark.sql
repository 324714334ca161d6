-- $1 app, $2 partition, $3 the next offset. The digest is of a record that nobody can read again: the app has no topic.
INSERT INTO ledger.command_offset (app, partition, next_offset, last_offset, last_timestamp_ms, last_digest)
VALUES ($1, $2, $3::bigint, $3::bigint - 1, 0, '\x00')
