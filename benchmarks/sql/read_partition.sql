-- $1 partition
SELECT partition, sequence, account_version, amount, balance_after, issued_at, occurred_at, command_offset, command_id,
    app, operation, owner_id, credit_type, nonce, reason, detail, metadata, metadata_digest, hash
FROM ledger.event WHERE partition = $1 ORDER BY sequence
