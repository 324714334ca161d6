-- Sorted on the server's disk, so that it can be read beside the events.
SELECT key, partition, sequence FROM ledger.nonce_key ORDER BY partition, sequence
