"""Making `ledger.events` what the record says again: after a restore that lost events, or when the topic was lost."""
