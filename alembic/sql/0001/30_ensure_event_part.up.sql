-- The part of the event table that holds a sequence, made if it is missing; answers the first sequence behind it.
-- Parts are ranges of sequences over all partitions, so that old ones can be detached. The writer has no right to
-- make tables: it calls this. ATTACH instead of PARTITION OF, because that would wait for every reader of the table.
CREATE FUNCTION ledger.ensure_event_part(wanted bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    part_sequences CONSTANT bigint := 4194304;
    part bigint := wanted / part_sequences;
    part_name text := format('event_%s', lpad((wanted / part_sequences)::text, 6, '0'));
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('ledger.ensure_event_part'));
    IF to_regclass('ledger.' || part_name) IS NULL THEN
        EXECUTE format('CREATE TABLE ledger.%I (LIKE ledger.event INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', part_name);
        EXECUTE format('ALTER TABLE ledger.event ATTACH PARTITION ledger.%I FOR VALUES FROM (%s) TO (%s)',
                       part_name, part * part_sequences, (part + 1) * part_sequences);
        EXECUTE format('CREATE TRIGGER event_is_never_emptied BEFORE TRUNCATE ON ledger.%I '
                       'FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change()', part_name);
    END IF;
    RETURN (part + 1) * part_sequences;
END
$$
