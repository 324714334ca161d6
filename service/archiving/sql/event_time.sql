-- $1 partition, $2 sequence
SELECT occurred_at FROM ledger.event WHERE partition = $1 AND sequence = $2
