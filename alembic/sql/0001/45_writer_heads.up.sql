GRANT UPDATE ON ledger.partition_head TO ledger_writer
