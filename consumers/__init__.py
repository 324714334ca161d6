"""What reads: the ledger consumer, which decides commands, and the kit by which apps subscribe to events."""
