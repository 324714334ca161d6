SELECT count(*) FROM ledger.account
