GRANT USAGE ON SCHEMA projections TO ledger_projector, ledger_reader
