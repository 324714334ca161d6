INSERT INTO ledger.ledger_identity (ledger_id, partitions) VALUES ($1, $2) ON CONFLICT DO NOTHING
