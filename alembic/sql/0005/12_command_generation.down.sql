DROP TABLE ledger.command_generation
