-- $1 the partitions that exist
SELECT partition, sequence FROM projections.statements_v{version}
WHERE partition <> ALL ($1::integer[])
ORDER BY partition, sequence
LIMIT 1
