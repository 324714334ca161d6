-- No row when there is no room.
INSERT INTO ledger.api_key (id, app, scopes, digest, label, created_by, expires_at)
SELECT $1, $2, $3, $4, $5, $6, $7
WHERE (
    SELECT count(*) FROM ledger.api_key
    WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())
) < $8
RETURNING id, app, scopes, label, created_at, created_by, expires_at, last_used_at, revoked_at, revoked_by,
    expires_at IS NULL OR expires_at > clock_timestamp() AS usable
