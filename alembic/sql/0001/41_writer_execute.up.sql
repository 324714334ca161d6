GRANT EXECUTE ON FUNCTION ledger.ensure_event_part(bigint) TO ledger_writer
