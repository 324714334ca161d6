-- Events that every read model has taken in: rows and checkpoint are committed together.
SELECT coalesce(min(taken), 0)::bigint
FROM (SELECT sum(sequence) AS taken FROM projections.checkpoint GROUP BY read_model, version) AS by_model
