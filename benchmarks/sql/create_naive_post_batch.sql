-- Many commands in one call, in their order. The rows are locked first, in one order, so that calls cannot deadlock.
CREATE FUNCTION post_batch(
    apps text[], commands uuid[], operations text[], owners text[], types text[], nonces text[], deltas bigint[],
    issued timestamptz[], metadata text[]
) RETURNS SETOF answer LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM account WHERE owner_id = ANY (owners) ORDER BY owner_id, credit_type FOR UPDATE;
    FOR i IN 1 .. cardinality(commands) LOOP
        RETURN NEXT post(apps[i], commands[i], operations[i], owners[i], types[i], nonces[i], deltas[i], issued[i],
            metadata[i]);
    END LOOP;
END
$$
