-- $1 read model, $2 version, $3 number of partitions, $4 the hash that the first event follows
INSERT INTO projections.checkpoint (read_model, version, partition, hash)
SELECT $1, $2, partition, $4 FROM generate_series(0, $3 - 1) AS partition
