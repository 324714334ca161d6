-- Everything that is known about one command. $2: the digest of (app, owner); $4, $5: where it was published.
SELECT
    key.partition,
    key.sequence,
    quarantined.reason AS quarantine_reason,
    quarantined.detail AS quarantine_detail,
    quarantined.status AS quarantine_status,
    quarantined.retried_as AS quarantine_retried_as,
    mark.next_offset
FROM (SELECT $1::uuid AS command_id, $2::uuid AS scope) AS wanted
LEFT JOIN ledger.command_key AS key ON key.command_id = wanted.command_id AND key.scope = wanted.scope
LEFT JOIN LATERAL (
    -- A topic that was made anew uses the same offsets again: who asks means the log of now.
    SELECT reason, detail, status, retried_as
    FROM ledger.quarantine
    WHERE app = $3::text AND partition = $4::integer AND command_offset = $5::bigint
    ORDER BY generation DESC
    LIMIT 1
) AS quarantined ON true
LEFT JOIN ledger.command_offset AS mark ON mark.app = $3::text AND mark.partition = $4::integer
