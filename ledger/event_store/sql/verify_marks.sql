SELECT app, partition, next_offset, last_offset FROM ledger.command_offset
