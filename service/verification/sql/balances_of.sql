-- $1 owners, $2 credit types, pairwise
SELECT kept.owner_id, kept.credit_type, kept.balance, kept.account_version, kept.last_updated
FROM unnest($1::text[], $2::text[]) AS wanted (owner_id, credit_type)
JOIN projections.balances_v{version} AS kept
    ON kept.owner_id = wanted.owner_id AND kept.credit_type = wanted.credit_type
