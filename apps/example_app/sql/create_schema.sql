-- Looked for first: a login that owns the schema needs no right to make one.
DO $$
BEGIN
    IF to_regnamespace('example_app') IS NULL THEN
        CREATE SCHEMA example_app;
    END IF;
END
$$
