-- What the work has come to: accepted entries behind $1 (by partition the sequence before the run) and their sum; the
-- sum of all balances; the lines of all statements. {balances} and {statements} are the active versions.
SELECT
    count(*) FILTER (WHERE event.reason IS NULL) AS entries,
    coalesce(sum(event.amount), 0)::bigint AS credited,
    (SELECT coalesce(sum(balance), 0)::bigint FROM projections.balances_v{balances}) AS balances,
    (SELECT count(*) FROM projections.statements_v{statements}) AS lines
FROM unnest($1::bigint[]) WITH ORDINALITY AS before (sequence, number)
JOIN ledger.event ON event.partition = before.number - 1 AND event.sequence > before.sequence
