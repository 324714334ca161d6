"""The rules of the ledger: pure functions on values. No I/O, clock, randomness, Kafka, SQL or asyncio in here."""
