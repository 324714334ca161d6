SELECT account.owner_id, account.credit_type, account.balance, account.version
FROM unnest($1::text[], $2::text[]) AS wanted (owner_id, credit_type)
JOIN ledger.account AS account
    ON account.owner_id = wanted.owner_id AND account.credit_type = wanted.credit_type
