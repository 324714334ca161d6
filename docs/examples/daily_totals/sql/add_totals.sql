INSERT INTO projections.daily_totals_v{version} AS kept
    (partition, day, app, operation, credit_type, entries, rejections, amount)
SELECT * FROM unnest(
    $1::integer[], $2::date[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::bigint[]
)
ON CONFLICT (day, app, operation, credit_type, partition) DO UPDATE
SET entries = kept.entries + excluded.entries,
    rejections = kept.rejections + excluded.rejections,
    amount = kept.amount + excluded.amount
