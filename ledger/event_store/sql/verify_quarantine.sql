SELECT app, partition, generation, command_offset FROM ledger.quarantine
