SELECT ledger.ensure_event_part($1)
