SELECT ledger_id, partitions FROM ledger.ledger_identity
