SELECT EXISTS (SELECT FROM ledger.intervention) OR EXISTS (SELECT FROM ledger.command_generation)
