-- $1 partition, $2 holder, $3 the epoch that must still hold it (NULL: whichever)
WITH before AS (
    SELECT * FROM ledger.partition_head WHERE partition = $1 AND epoch = coalesce($3, epoch) FOR UPDATE
)
UPDATE ledger.partition_head AS head
SET epoch = before.epoch + 1,
    holder = $2,
    claimed_at = clock_timestamp(),
    seen_at = clock_timestamp(),
    consumed_at_claim = before.consumed,
    halted_because = NULL,
    halted_record = NULL,
    halted_apps = NULL
FROM before
WHERE head.partition = before.partition
RETURNING
    head.epoch, head.sequence, head.hash, head.occurred_at, head.published_sequence, head.consumed,
    head.trying, head.trying_claims,
    before.consumed_at_claim IS NOT DISTINCT FROM before.consumed AS same_position_as_last_claim,
    clock_timestamp() AS clock
