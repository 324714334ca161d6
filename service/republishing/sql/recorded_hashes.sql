-- $1 partition, $2 sequences
SELECT sequence, hash FROM ledger.event WHERE partition = $1 AND sequence = ANY($2::bigint[])
