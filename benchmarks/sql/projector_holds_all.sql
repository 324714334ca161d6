-- $1 the process
SELECT bool_and(checkpoint.holder IS NOT DISTINCT FROM $1) AND count(*) > 0
FROM projections.checkpoint
JOIN projections.read_model ON read_model.name = checkpoint.read_model
    AND read_model.active_version = checkpoint.version
