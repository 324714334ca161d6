SELECT credit_type, sum(balance)::text AS balance FROM ledger.account GROUP BY credit_type
