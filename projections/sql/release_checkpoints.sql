UPDATE projections.checkpoint SET holder = NULL
FROM unnest($1::text[], $2::integer[], $3::integer[], $4::bigint[]) AS mine (read_model, version, partition, epoch)
WHERE checkpoint.read_model = mine.read_model AND checkpoint.version = mine.version
    AND checkpoint.partition = mine.partition AND checkpoint.epoch = mine.epoch
