SELECT partition, epoch, sequence, hash, occurred_at, published_sequence, consumed FROM ledger.partition_head
