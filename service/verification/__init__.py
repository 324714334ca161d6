"""What `ledger verify` compares with the record beside the record itself: the topic of events and the read models."""
