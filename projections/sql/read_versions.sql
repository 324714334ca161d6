-- $1 read model: every version of which there are checkpoints or tables
SELECT version FROM projections.checkpoint WHERE read_model = $1
UNION
SELECT substring(relname FROM '_v([0-9]+)$')::integer
FROM pg_class
WHERE relnamespace = 'projections'::regnamespace AND relkind = 'r' AND relname ~ ('^' || $1 || '(_[a-z_]+)?_v[0-9]+$')
