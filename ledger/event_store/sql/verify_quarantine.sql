SELECT app, partition, command_offset FROM ledger.quarantine
