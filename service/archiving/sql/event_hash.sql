-- $1 partition, $2 sequence
SELECT hash FROM ledger.event WHERE partition = $1 AND sequence = $2
