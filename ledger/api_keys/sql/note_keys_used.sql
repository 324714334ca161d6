SELECT ledger.note_keys_used($1)
