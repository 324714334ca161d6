-- Not beyond the end of the record: a copy that lost events must publish what it will hold in their places.
UPDATE ledger.partition_head SET published_sequence = greatest(published_sequence, $3)
WHERE partition = $1 AND epoch = $2 AND sequence >= $3
