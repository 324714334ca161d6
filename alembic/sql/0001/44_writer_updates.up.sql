GRANT INSERT, UPDATE ON ledger.account, ledger.command_offset TO ledger_writer
