-- A small batch in one statement: what fence, advance_heads, advance_offsets, begin_offsets, the COPYs and
-- upsert_accounts do one after the other. Nothing is written unless every partition is held; the caller compares the
-- numbers of rows with those of the batch before it commits.
-- $1 to $8 heads, $9 to $15 offsets (expected is NULL for an app's first), $16 to $34 events, $35 to $38 command keys,
-- $39 to $41 nonce keys, $42 to $45 accounts
WITH fenced AS MATERIALIZED (
    -- Locks in the order of partitions, so that two holders cannot wait for each other.
    SELECT head.partition, clock_timestamp() AS clock
    FROM ledger.partition_head AS head
    JOIN unnest($1::integer[], $2::bigint[]) AS mine (partition, epoch) ON mine.partition = head.partition
    WHERE head.epoch = mine.epoch
    ORDER BY head.partition
    FOR UPDATE OF head
), may AS MATERIALIZED (
    SELECT count(*) = cardinality($1) AS write FROM fenced
), heads AS (
    UPDATE ledger.partition_head AS head
    SET sequence = batch.sequence,
        hash = batch.hash,
        occurred_at = coalesce(batch.occurred_at, head.occurred_at),
        published_sequence = greatest(head.published_sequence, batch.published_sequence),
        consumed = head.consumed + batch.consumed,
        trying = NULL,
        trying_claims = 0
    FROM may
    CROSS JOIN unnest($1::integer[], $3::bigint[], $4::bigint[], $5::bytea[], $6::timestamptz[], $7::bigint[],
        $8::bigint[]) AS batch (partition, sequence_before, sequence, hash, occurred_at, published_sequence, consumed)
    WHERE may.write AND head.partition = batch.partition AND head.sequence = batch.sequence_before
    RETURNING 1
), moved AS (
    -- Compare and set: a record is consumed once.
    UPDATE ledger.command_offset AS mark
    SET next_offset = batch.next_offset,
        last_offset = batch.last_offset,
        last_timestamp_ms = batch.last_timestamp_ms,
        last_digest = batch.last_digest
    FROM may
    CROSS JOIN unnest($9::text[], $10::integer[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[],
        $15::bytea[]) AS batch (app, partition, expected, next_offset, last_offset, last_timestamp_ms, last_digest)
    WHERE may.write AND mark.app = batch.app AND mark.partition = batch.partition AND mark.next_offset = batch.expected
    RETURNING 1
), begun AS (
    INSERT INTO ledger.command_offset (app, partition, next_offset, last_offset, last_timestamp_ms, last_digest)
    SELECT batch.app, batch.partition, batch.next_offset, batch.last_offset, batch.last_timestamp_ms, batch.last_digest
    FROM may
    CROSS JOIN unnest($9::text[], $10::integer[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[],
        $15::bytea[]) AS batch (app, partition, expected, next_offset, last_offset, last_timestamp_ms, last_digest)
    WHERE may.write AND batch.expected IS NULL
    ON CONFLICT (app, partition) DO NOTHING
    RETURNING 1
), events AS (
    INSERT INTO ledger.event (partition, sequence, account_version, amount, balance_after, issued_at, occurred_at,
        command_offset, command_id, app, operation, owner_id, credit_type, nonce, reason, detail, metadata,
        metadata_digest, hash)
    SELECT batch.*
    FROM may
    CROSS JOIN unnest($16::integer[], $17::bigint[], $18::bigint[], $19::bigint[], $20::bigint[], $21::timestamptz[],
        $22::timestamptz[], $23::bigint[], $24::uuid[], $25::text[], $26::text[], $27::text[], $28::text[],
        $29::text[], $30::text[], $31::text[], $32::text[], $33::bytea[], $34::bytea[]) AS batch
    WHERE may.write
    RETURNING 1
), command_keys AS (
    INSERT INTO ledger.command_key (command_id, scope, partition, sequence)
    SELECT batch.*
    FROM may CROSS JOIN unnest($35::uuid[], $36::uuid[], $37::integer[], $38::bigint[]) AS batch
    WHERE may.write
    RETURNING 1
), nonce_keys AS (
    INSERT INTO ledger.nonce_key (key, partition, sequence)
    SELECT batch.*
    FROM may CROSS JOIN unnest($39::uuid[], $40::integer[], $41::bigint[]) AS batch
    WHERE may.write
    RETURNING 1
), accounts AS (
    -- Versions only rise: an older state never overwrites a newer one.
    INSERT INTO ledger.account AS account (owner_id, credit_type, balance, version)
    SELECT batch.*
    FROM may CROSS JOIN unnest($42::text[], $43::text[], $44::bigint[], $45::bigint[]) AS batch
    WHERE may.write
    ON CONFLICT (owner_id, credit_type) DO UPDATE
    SET balance = excluded.balance, version = excluded.version
    WHERE account.version < excluded.version
    RETURNING 1
)
SELECT
    (SELECT array_agg(fenced.partition) FROM fenced) AS held,
    (SELECT max(fenced.clock) FROM fenced) AS clock,
    (SELECT count(*) FROM heads) AS heads,
    (SELECT count(*) FROM moved) AS moved,
    (SELECT count(*) FROM begun) AS begun,
    (SELECT count(*) FROM events) AS events,
    (SELECT count(*) FROM command_keys) AS command_keys,
    (SELECT count(*) FROM nonce_keys) AS nonce_keys,
    (SELECT count(*) FROM accounts) AS accounts
