GRANT USAGE ON SCHEMA ledger TO ledger_writer, ledger_projector, ledger_reader
