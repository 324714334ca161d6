-- $1 owners, $2 credit types, $3 balances, $4 account versions, $5 times. Versions only rise.
INSERT INTO projections.balances_v{version} AS kept (owner_id, credit_type, balance, account_version, last_updated)
SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::timestamptz[])
ON CONFLICT (owner_id, credit_type) DO UPDATE
SET balance = excluded.balance, account_version = excluded.account_version, last_updated = excluded.last_updated
WHERE kept.account_version < excluded.account_version
