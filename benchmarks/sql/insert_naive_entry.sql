INSERT INTO entry (app, command_id, operation, owner_id, credit_type, nonce, amount, issued_at, metadata, balance_after,
    account_version)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
RETURNING id
