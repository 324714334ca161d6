UPDATE ledger.partition_head
SET trying_claims = CASE WHEN trying = $3 THEN trying_claims + 1 ELSE 1 END, trying = $3
WHERE partition = $1 AND epoch = $2
RETURNING trying_claims
