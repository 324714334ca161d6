-- The same as one call: no round trips between the steps. Answers the balance, or NULL for a refusal.
CREATE FUNCTION post(the_app text, the_command uuid, the_operation text, the_owner text, the_nonce text, delta bigint)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    after bigint;
BEGIN
    UPDATE account SET balance = balance + delta WHERE owner_id = the_owner AND balance + delta >= 0
    RETURNING balance INTO after;
    IF after IS NOT NULL THEN
        INSERT INTO entry (app, command_id, operation, owner_id, nonce, amount, balance_after)
        VALUES (the_app, the_command, the_operation, the_owner, the_nonce, delta, after);
    END IF;
    RETURN after;
END
$$
