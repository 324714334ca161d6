-- As the login itself: who it is, and what it may act as.
SELECT
    rolname AS login,
    rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls AS administers,
    ARRAY(
        SELECT wanted
        FROM unnest(ARRAY['ledger_owner', 'ledger_writer', 'ledger_projector', 'ledger_reader']) AS wanted
        WHERE pg_has_role(session_user, wanted, 'MEMBER')
    ) AS groups
FROM pg_roles
WHERE rolname = session_user
