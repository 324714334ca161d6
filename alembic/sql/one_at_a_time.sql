SELECT pg_advisory_lock(hashtext('ledger.migrations'))
