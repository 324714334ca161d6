-- $1 partition, $2 first and $3 last sequence
INSERT INTO projections.daily_totals_v{version} AS kept
    (partition, day, app, operation, credit_type, entries, rejections, amount)
SELECT partition, (occurred_at AT TIME ZONE 'UTC')::date, app, operation, credit_type,
    count(*) FILTER (WHERE reason IS NULL), count(*) FILTER (WHERE reason IS NOT NULL), sum(amount)::bigint
FROM ledger.event
WHERE partition = $1 AND sequence BETWEEN $2 AND $3
GROUP BY 1, 2, 3, 4, 5
ON CONFLICT (day, app, operation, credit_type, partition) DO UPDATE
SET entries = kept.entries + excluded.entries,
    rejections = kept.rejections + excluded.rejections,
    amount = kept.amount + excluded.amount
