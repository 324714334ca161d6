-- Sorted on the server's disk, so that it can be read beside the events.
SELECT command_id, scope, partition, sequence FROM ledger.command_key ORDER BY partition, sequence
