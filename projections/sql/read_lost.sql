-- $1 read models, $2 versions, $3 partitions, $4 epochs: those of them that are no longer held at that epoch
SELECT mine.read_model, mine.version, mine.partition
FROM unnest($1::text[], $2::integer[], $3::integer[], $4::bigint[]) AS mine (read_model, version, partition, epoch)
LEFT JOIN projections.checkpoint
    ON checkpoint.read_model = mine.read_model AND checkpoint.version = mine.version
    AND checkpoint.partition = mine.partition AND checkpoint.epoch = mine.epoch
WHERE checkpoint.epoch IS NULL
