"""`ledger up`: everything on this machine, from the servers to the example app, and its end in order."""
