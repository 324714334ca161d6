GRANT SELECT ON ALL TABLES IN SCHEMA ledger TO ledger_writer, ledger_projector, ledger_reader
