INSERT INTO ledger.intervention (operator, kind, subject, reason, before, after)
VALUES ($1, $2, $3, $4, $5, $6)
RETURNING number, made_at
