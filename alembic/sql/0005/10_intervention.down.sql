DROP TABLE ledger.intervention
