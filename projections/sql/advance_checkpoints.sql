-- The fence and the checkpoints in one: locks in one order, so that two holders cannot wait for each other, and
-- answers the rows that this process still holds.
WITH mine AS (
    SELECT batch.*
    FROM projections.checkpoint
    JOIN unnest($1::text[], $2::integer[], $3::integer[], $4::bigint[], $5::bigint[], $6::bytea[], $7::bigint[])
        AS batch (read_model, version, partition, epoch, sequence, hash, next_offset)
        ON checkpoint.read_model = batch.read_model AND checkpoint.version = batch.version
        AND checkpoint.partition = batch.partition
    WHERE checkpoint.epoch = batch.epoch
    ORDER BY checkpoint.read_model, checkpoint.version, checkpoint.partition
    FOR UPDATE OF checkpoint
)
UPDATE projections.checkpoint
SET sequence = mine.sequence, hash = mine.hash, next_offset = mine.next_offset
FROM mine
WHERE checkpoint.read_model = mine.read_model AND checkpoint.version = mine.version
    AND checkpoint.partition = mine.partition
RETURNING checkpoint.read_model, checkpoint.version, checkpoint.partition
