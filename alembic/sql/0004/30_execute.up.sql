REVOKE EXECUTE ON FUNCTION ledger.note_keys_used(text[]) FROM PUBLIC
