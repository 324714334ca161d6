-- Kept up to date by hand where a schema is added: what is not named here would be missed by the sum.
SELECT CASE namespace.nspname WHEN 'ledger' THEN 'record' ELSE 'read_models' END
        || CASE WHEN class.relkind = 'i' THEN '_indexes' ELSE '_tables' END AS name,
    sum(pg_relation_size(class.oid))::bigint AS bytes
FROM pg_class AS class
JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
WHERE namespace.nspname IN ('ledger', 'projections') AND class.relkind IN ('r', 'i')
GROUP BY 1
UNION ALL
SELECT 'wal', (pg_current_wal_insert_lsn() - '0/0')::bigint
