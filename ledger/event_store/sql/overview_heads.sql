SELECT partition, sequence, published_sequence, epoch, holder, claimed_at, occurred_at, consumed, trying, trying_claims,
    halted_because, halted_record, halted_apps
FROM ledger.partition_head
ORDER BY partition
