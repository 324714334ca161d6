-- Many commands in one call, in their order. The rows are locked first, in one order, so that calls cannot deadlock.
CREATE FUNCTION post_batch(
    apps text[], commands uuid[], operations text[], owners text[], nonces text[], deltas bigint[]
) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    balances bigint[];
BEGIN
    PERFORM FROM account WHERE owner_id = ANY (owners) ORDER BY owner_id FOR UPDATE;
    FOR i IN 1 .. cardinality(commands) LOOP
        balances[i] := post(apps[i], commands[i], operations[i], owners[i], nonces[i], deltas[i]);
    END LOOP;
    RETURN balances;
END
$$
