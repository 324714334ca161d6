SELECT partition, holder, sequence, sequence - published_sequence AS unpublished, halted_because
FROM ledger.partition_head
ORDER BY partition
