INSERT INTO entry (app, command_id, operation, owner_id, nonce, amount, balance_after)
VALUES ($1, $2, $3, $4, $5, $6, $7)
