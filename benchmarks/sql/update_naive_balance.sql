UPDATE account SET balance = $3, version = $4 WHERE owner_id = $1 AND credit_type = $2
