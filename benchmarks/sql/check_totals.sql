-- The work was done: accepted entries, their sum, the sum of the balances, and the lines of the statements' model.
SELECT
    (SELECT count(*) FROM ledger.event WHERE reason IS NULL) AS entries,
    (SELECT coalesce(sum(amount), 0)::bigint FROM ledger.event) AS credited,
    (SELECT coalesce(sum(balance), 0)::bigint FROM projections.balances_v1) AS balances,
    (SELECT count(*) FROM projections.statements_v1) AS lines
