SELECT app, partition, next_offset, last_offset, generation FROM ledger.command_offset
