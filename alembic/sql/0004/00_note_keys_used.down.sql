DROP FUNCTION ledger.note_keys_used(text[])
