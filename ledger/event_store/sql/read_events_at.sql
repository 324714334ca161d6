SELECT event.partition, event.sequence, event.account_version, event.amount, event.balance_after, event.issued_at,
    event.occurred_at, event.command_offset, event.command_id, event.app, event.operation, event.owner_id,
    event.credit_type, event.nonce, event.reason, event.detail, event.metadata, event.metadata_digest, event.hash,
    before.hash AS prev_hash
FROM unnest($1::integer[], $2::bigint[]) AS wanted (partition, sequence)
JOIN ledger.event AS event ON event.partition = wanted.partition AND event.sequence = wanted.sequence
LEFT JOIN ledger.event AS before ON before.partition = wanted.partition AND before.sequence = wanted.sequence - 1
