-- Whoever has a login on this server is no reader of the ledger by that. Done where the migrating user may: the rights on
-- a database and on its schema `public` are given and taken by the database's owner.
DO $$
BEGIN
    IF pg_has_role((SELECT datdba FROM pg_database WHERE datname = current_database()), 'USAGE') THEN
        EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO ledger_owner, ledger_writer, ledger_projector, ledger_reader',
                       current_database());
        REVOKE ALL ON SCHEMA public FROM PUBLIC;
    END IF;
END
$$
