-- $1 the processes: whether each of them holds checkpoints, and all are held by them
SELECT count(DISTINCT checkpoint.holder) FILTER (WHERE checkpoint.holder = ANY ($1::text[])) = cardinality($1::text[])
    AND bool_and(coalesce(checkpoint.holder = ANY ($1::text[]), false))
FROM projections.checkpoint
JOIN projections.read_model ON read_model.name = checkpoint.read_model
    AND read_model.active_version = checkpoint.version
