SELECT balance FROM account WHERE owner_id = $1 FOR UPDATE
