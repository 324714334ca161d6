GRANT INSERT ON ledger.event, ledger.command_key, ledger.nonce_key, ledger.quarantine TO ledger_writer
