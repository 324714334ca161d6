UPDATE ledger.partition_head SET halted_because = $3 WHERE partition = $1 AND epoch = $2
