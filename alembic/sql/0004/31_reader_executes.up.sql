GRANT EXECUTE ON FUNCTION ledger.note_keys_used(text[]) TO ledger_reader
