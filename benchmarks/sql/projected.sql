-- Events that every read model has taken in: rows and checkpoint are committed together.
SELECT coalesce(min(taken), 0)::bigint
FROM (
    SELECT sum(checkpoint.sequence) AS taken
    FROM projections.checkpoint
    JOIN projections.read_model ON read_model.name = checkpoint.read_model
        AND read_model.active_version = checkpoint.version
    GROUP BY checkpoint.read_model
) AS by_model
