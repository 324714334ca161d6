-- $1 partitions
SELECT partition, epoch, sequence, hash FROM ledger.partition_head WHERE partition = ANY($1::integer[])
