UPDATE account SET balance = $2 WHERE owner_id = $1
