-- While this transaction lasts no consumer can commit a batch: commands gather behind it.
SELECT partition FROM ledger.partition_head ORDER BY partition FOR UPDATE
