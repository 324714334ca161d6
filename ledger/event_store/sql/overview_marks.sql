SELECT app, partition, next_offset FROM ledger.command_offset
