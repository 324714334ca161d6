-- The app's own schema, made or handed over with what lies in it, so that its login needs no right on the database.
DO $$
DECLARE
    login text := current_setting('ledger.login');
    place CONSTANT text := 'example_app';
    wanted record;
BEGIN
    IF to_regnamespace(place) IS NULL THEN
        EXECUTE format('CREATE SCHEMA %I AUTHORIZATION %I', place, login);
    END IF;
    EXECUTE format('ALTER SCHEMA %I OWNER TO %I', place, login);
    FOR wanted IN SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(place) AND relkind IN ('r', 'p') LOOP
        EXECUTE format('ALTER TABLE %I.%I OWNER TO %I', place, wanted.relname, login);
    END LOOP;
END
$$
