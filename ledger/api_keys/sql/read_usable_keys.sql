-- One row at least, which tells whether there has ever been a key; its id is null when none is usable.
SELECT EXISTS (SELECT FROM ledger.api_key) AS any_made, key.id, key.app, key.scopes, key.digest, key.expires_at
FROM (VALUES (true)) AS one
LEFT JOIN ledger.api_key AS key
    ON key.revoked_at IS NULL AND (key.expires_at IS NULL OR key.expires_at > clock_timestamp())
LIMIT $1
