SELECT balance, version FROM account WHERE owner_id = $1 AND credit_type = $2 FOR UPDATE
