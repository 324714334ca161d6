-- $1 partition, $2 first and $3 last sequence. The balance is the sum of the amounts and the version their number
-- (invariant 6): no sorting by sequence is needed.
INSERT INTO projections.balances_v{version} AS kept (owner_id, credit_type, balance, account_version, last_updated)
SELECT owner_id, credit_type, sum(amount)::bigint, count(*), max(occurred_at)
FROM ledger.event
WHERE partition = $1 AND sequence BETWEEN $2 AND $3 AND reason IS NULL
GROUP BY owner_id, credit_type
ON CONFLICT (owner_id, credit_type) DO UPDATE
SET balance = kept.balance + excluded.balance,
    account_version = kept.account_version + excluded.account_version,
    last_updated = excluded.last_updated
