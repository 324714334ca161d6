SELECT number, made_at, operator, kind, subject, reason, before, after FROM ledger.intervention ORDER BY number
