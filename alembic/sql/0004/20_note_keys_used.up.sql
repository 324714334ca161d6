-- The HTTP service may only read; this is the one thing about keys that it writes, and it gives no right away.
CREATE FUNCTION ledger.note_keys_used(key_ids text[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE ledger.api_key SET last_used_at = clock_timestamp() WHERE id = ANY (key_ids)
$$
