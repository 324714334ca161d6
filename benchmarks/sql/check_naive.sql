SELECT (SELECT count(*) FROM entry) AS entries, (SELECT sum(amount)::bigint FROM entry) AS credited,
    (SELECT sum(balance)::bigint FROM account) AS balances
