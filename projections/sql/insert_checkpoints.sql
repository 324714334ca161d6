-- $1 read model, $2 version, $3 number of partitions, $4 the hash that the first event follows. While nothing is filled
-- in, the topic is read from its first record.
INSERT INTO projections.checkpoint (read_model, version, partition, hash, next_offset)
SELECT $1, $2, partition, $4, 0 FROM generate_series(0, $3 - 1) AS partition
