-- $1 partition, $2 checkpoint. The first event that is not in the statements as it was recorded, or the other way.
SELECT sequence, recorded FROM (
    (
        SELECT sequence, true AS recorded, reason IS NULL AS accepted, amount, balance_after, account_version, occurred_at,
            command_id, owner_id, credit_type, app, operation, nonce, reason, detail
        FROM ledger.event WHERE partition = $1 AND sequence <= $2
        EXCEPT ALL
        SELECT sequence, true, accepted, amount, balance_after, account_version, occurred_at,
            command_id, owner_id, credit_type, app, operation, nonce, reason, detail
        FROM projections.statements_v{version} WHERE partition = $1
    )
    UNION ALL
    (
        SELECT sequence, false, accepted, amount, balance_after, account_version, occurred_at,
            command_id, owner_id, credit_type, app, operation, nonce, reason, detail
        FROM projections.statements_v{version} WHERE partition = $1
        EXCEPT ALL
        SELECT sequence, false, reason IS NULL, amount, balance_after, account_version, occurred_at,
            command_id, owner_id, credit_type, app, operation, nonce, reason, detail
        FROM ledger.event WHERE partition = $1 AND sequence <= $2
    )
) AS difference
ORDER BY sequence, recorded DESC
LIMIT 1
