"""Read models: code that derives tables from the ledger's events, and the queries that read them."""
