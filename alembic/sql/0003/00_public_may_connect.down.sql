DO $$
BEGIN
    IF pg_has_role((SELECT datdba FROM pg_database WHERE datname = current_database()), 'USAGE') THEN
        EXECUTE format('GRANT CONNECT, TEMPORARY ON DATABASE %I TO PUBLIC', current_database());
        EXECUTE format('REVOKE CONNECT ON DATABASE %I FROM ledger_owner, ledger_writer, ledger_projector, ledger_reader',
                       current_database());
        GRANT USAGE ON SCHEMA public TO PUBLIC;
    END IF;
END
$$
