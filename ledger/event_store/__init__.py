"""The record in Postgres: events, keys, accounts, heads, offsets and the quarantine."""
