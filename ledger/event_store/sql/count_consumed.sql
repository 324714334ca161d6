UPDATE ledger.partition_head SET consumed = consumed + 1, trying = NULL, trying_claims = 0 WHERE partition = $1
