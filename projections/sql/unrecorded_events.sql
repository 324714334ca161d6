-- $1 partitions, $2 sequences, $3 hashes of the last events that a batch brings: those that the record does not hold so.
-- What was published is in the record, unless that was restored from an older copy. (Archived events are no matter.)
SELECT last.partition, last.sequence, head.sequence AS head_sequence
FROM unnest($1::integer[], $2::bigint[], $3::bytea[]) AS last (partition, sequence, hash)
JOIN ledger.partition_head AS head ON head.partition = last.partition
LEFT JOIN ledger.event ON event.partition = last.partition AND event.sequence = last.sequence
WHERE last.sequence > head.sequence OR event.hash <> last.hash
ORDER BY last.partition
