-- Nobody but the owner, as whom the command line acts, writes them.
GRANT SELECT ON ledger.command_generation, ledger.intervention TO ledger_writer, ledger_projector, ledger_reader
