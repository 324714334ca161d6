-- What is filled in from the record says nothing about offsets.
-- $1 read model, $2 version, $3 partition, $4 the last sequence that was filled in
UPDATE projections.checkpoint
SET sequence = event.sequence, hash = event.hash, next_offset = NULL
FROM ledger.event
WHERE checkpoint.read_model = $1 AND checkpoint.version = $2 AND checkpoint.partition = $3
    AND event.partition = checkpoint.partition AND event.sequence = $4
