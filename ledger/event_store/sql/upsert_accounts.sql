-- Versions only rise: an older state never overwrites a newer one.
INSERT INTO ledger.account AS account (owner_id, credit_type, balance, version)
SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[])
ON CONFLICT (owner_id, credit_type) DO UPDATE
SET balance = excluded.balance, version = excluded.version
WHERE account.version < excluded.version
