-- $1 owners, $2 their partitions, pairwise. No row at all: this version is not the active one (any more).
-- A row and its checkpoint come from one snapshot, so that the position says exactly what the balance contains.
SELECT wanted.owner_id, wanted.partition, checkpoint.sequence,
    kept.credit_type, kept.balance, kept.account_version, kept.last_updated
FROM projections.read_model AS model
CROSS JOIN unnest($1::text[], $2::integer[]) AS wanted (owner_id, partition)
JOIN projections.checkpoint
    ON checkpoint.read_model = model.name AND checkpoint.version = model.active_version
    AND checkpoint.partition = wanted.partition
LEFT JOIN projections.balances_v{version} AS kept ON kept.owner_id = wanted.owner_id
WHERE model.name = 'balances' AND model.active_version = {version}
ORDER BY wanted.owner_id, kept.credit_type
