UPDATE ledger.api_key
SET revoked_at = coalesce(revoked_at, clock_timestamp()), revoked_by = coalesce(revoked_by, $2)
WHERE id = $1
RETURNING id, app, scopes, label, created_at, created_by, expires_at, last_used_at, revoked_at, revoked_by, false AS usable
