-- $1 partition, $2 sequences: the hashes that the record holds there, and where it ends.
SELECT wanted.sequence, event.hash, head.sequence AS head_sequence
FROM ledger.partition_head AS head
CROSS JOIN unnest($2::bigint[]) AS wanted (sequence)
LEFT JOIN ledger.event ON event.partition = head.partition AND event.sequence = wanted.sequence
WHERE head.partition = $1
