SELECT partition, sequence, published_sequence, epoch, holder, claimed_at, occurred_at, consumed, trying, trying_claims,
    halted_because
FROM ledger.partition_head
ORDER BY partition
