DROP TABLE ledger.api_key
