SET LOCAL ROLE ledger_owner
