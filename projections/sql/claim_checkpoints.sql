-- $1 partition, $2 holder, $3 read models, $4 versions, $5 the epochs that must still hold them (NULL: whichever)
WITH before AS (
    SELECT checkpoint.read_model, checkpoint.version, checkpoint.partition, checkpoint.epoch
    FROM projections.checkpoint
    JOIN unnest($3::text[], $4::integer[], $5::bigint[]) AS wanted (read_model, version, epoch)
        ON checkpoint.read_model = wanted.read_model AND checkpoint.version = wanted.version
    WHERE checkpoint.partition = $1 AND checkpoint.epoch = coalesce(wanted.epoch, checkpoint.epoch)
    ORDER BY checkpoint.read_model, checkpoint.version
    FOR UPDATE OF checkpoint
)
UPDATE projections.checkpoint
SET epoch = before.epoch + 1, holder = $2, claimed_at = clock_timestamp(), halted_because = NULL
FROM before
WHERE checkpoint.read_model = before.read_model AND checkpoint.version = before.version
    AND checkpoint.partition = before.partition
RETURNING checkpoint.read_model, checkpoint.version, checkpoint.epoch, checkpoint.sequence, checkpoint.hash,
    checkpoint.next_offset
