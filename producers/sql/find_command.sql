-- Everything that is known about one command. $2: the digest of (app, owner); $4, $5: where it was published.
SELECT
    key.partition,
    key.sequence,
    quarantined.reason AS quarantine_reason,
    quarantined.detail AS quarantine_detail,
    quarantined.status AS quarantine_status,
    mark.next_offset
FROM (SELECT $1::uuid AS command_id, $2::uuid AS scope) AS wanted
LEFT JOIN ledger.command_key AS key ON key.command_id = wanted.command_id AND key.scope = wanted.scope
LEFT JOIN ledger.quarantine AS quarantined
    ON quarantined.app = $3::text AND quarantined.partition = $4::integer AND quarantined.command_offset = $5::bigint
LEFT JOIN ledger.command_offset AS mark ON mark.app = $3::text AND mark.partition = $4::integer
