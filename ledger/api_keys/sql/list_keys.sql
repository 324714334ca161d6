SELECT id, app, scopes, label, created_at, created_by, expires_at, last_used_at, revoked_at, revoked_by,
    revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp()) AS usable
FROM ledger.api_key
WHERE $1::text IS NULL OR app = $1
ORDER BY created_at DESC, id
