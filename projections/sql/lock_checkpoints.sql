-- $1 read model, $2 the active version: its workers wait until the swap is over, and find it gone.
SELECT partition, sequence, next_offset FROM projections.checkpoint
WHERE read_model = $1 AND version = $2
ORDER BY partition
FOR UPDATE
