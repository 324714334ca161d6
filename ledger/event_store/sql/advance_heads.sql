UPDATE ledger.partition_head AS head
SET sequence = batch.sequence,
    hash = batch.hash,
    occurred_at = coalesce(batch.occurred_at, head.occurred_at),
    published_sequence = greatest(head.published_sequence, batch.published_sequence),
    consumed = head.consumed + batch.consumed,
    trying = NULL,
    trying_claims = 0
FROM unnest($1::integer[], $2::bigint[], $3::bigint[], $4::bytea[], $5::timestamptz[], $6::bigint[], $7::bigint[])
    AS batch (partition, sequence_before, sequence, hash, occurred_at, published_sequence, consumed)
WHERE head.partition = batch.partition AND head.sequence = batch.sequence_before
