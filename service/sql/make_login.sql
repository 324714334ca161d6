-- A login that may do what its group may, and nothing else; its password is set anew. One that may do more is refused:
-- it is somebody else's.
DO $$
DECLARE
    login text := current_setting('ledger.login');
    wanted text := current_setting('ledger.group');
    groups CONSTANT text[] := ARRAY['ledger_owner', 'ledger_writer', 'ledger_projector', 'ledger_reader'];
    other text;
BEGIN
    IF login = session_user OR login = ANY (groups) THEN
        RAISE EXCEPTION '% is the owner or a group of the ledger: give the process a login of its own', login;
    END IF;
    BEGIN
        EXECUTE format('CREATE ROLE %I', login);
    EXCEPTION WHEN duplicate_object OR unique_violation THEN
        NULL;
    END;
    PERFORM FROM pg_roles
    WHERE rolname = login AND (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls);
    IF FOUND THEN
        RAISE EXCEPTION '% may do more than a process of the ledger needs: give it a login of its own', login;
    END IF;
    EXECUTE format('ALTER ROLE %I LOGIN INHERIT PASSWORD %L', login, current_setting('ledger.verifier'));
    IF wanted <> '' THEN
        EXECUTE format('GRANT %I TO %I WITH INHERIT TRUE, SET TRUE', wanted, login);
    END IF;
    FOREACH other IN ARRAY groups || session_user::text LOOP
        IF other <> wanted AND pg_has_role(login, other, 'MEMBER') THEN
            RAISE EXCEPTION '% may also act as %: take that away, or give the process a login of its own', login, other;
        END IF;
    END LOOP;
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), login);
    -- A rebuild must be able to end the connection of a worker that is stopped with locks in its hands.
    IF NOT (pg_has_role(login, 'USAGE') AND pg_has_role(login, 'SET')) THEN
        EXECUTE format('GRANT %I TO CURRENT_USER WITH INHERIT TRUE, SET TRUE', login);
    END IF;
END
$$
