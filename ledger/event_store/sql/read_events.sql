-- $1 partition, $2 first sequence, $3 how many
SELECT partition, sequence, account_version, amount, balance_after, issued_at, occurred_at, command_offset, command_id,
    app, operation, owner_id, credit_type, nonce, reason, detail, metadata, metadata_digest, hash
FROM ledger.event
WHERE partition = $1 AND sequence >= $2 AND sequence < $2 + $3
ORDER BY sequence
