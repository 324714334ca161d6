UPDATE ledger.partition_head SET halted_because = $3, halted_record = $4, halted_apps = $5
WHERE partition = $1 AND epoch = $2
