"""`ledger import`: a history in a CSV file becomes commands, in order, and every row gets an outcome."""
