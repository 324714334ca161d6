-- $1 partition, $2 first and $3 last sequence.
INSERT INTO projections.statements_v{version} (partition, accepted, sequence, amount, balance_after, account_version,
    occurred_at, command_id, owner_id, credit_type, app, operation, nonce, reason, detail)
SELECT partition, reason IS NULL, sequence, amount, balance_after, account_version,
    occurred_at, command_id, owner_id, credit_type, app, operation, nonce, reason, detail
FROM ledger.event
WHERE partition = $1 AND sequence BETWEEN $2 AND $3
