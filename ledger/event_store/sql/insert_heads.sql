INSERT INTO ledger.partition_head (partition, hash)
SELECT partition, $2 FROM generate_series(0, $1 - 1) AS partition
ON CONFLICT DO NOTHING
