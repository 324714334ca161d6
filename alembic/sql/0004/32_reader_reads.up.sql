GRANT SELECT ON ledger.api_key TO ledger_reader
