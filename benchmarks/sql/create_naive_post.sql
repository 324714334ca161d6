-- The same as one call: no round trips between the steps. A command sent again is answered as the first time, a used
-- nonce is refused, and neither fails the other commands of a batch. Refusals are answered, not recorded.
CREATE FUNCTION post(
    the_app text, the_command uuid, the_operation text, the_owner text, the_type text, the_nonce text, delta bigint,
    the_issued timestamptz, the_metadata text
) RETURNS answer LANGUAGE plpgsql AS $$
DECLARE
    held bigint;
    held_version bigint;
    made bigint;
    first answer;
BEGIN
    SELECT balance, version INTO held, held_version FROM account
    WHERE owner_id = the_owner AND credit_type = the_type FOR UPDATE;
    IF held + delta >= 0 THEN
        INSERT INTO entry (account_version, amount, balance_after, issued_at, command_id, app, operation, owner_id,
            credit_type, nonce, metadata)
        VALUES (held_version + 1, delta, held + delta, the_issued, the_command, the_app, the_operation, the_owner,
            the_type, the_nonce, the_metadata)
        ON CONFLICT DO NOTHING
        RETURNING id INTO made;
        IF made IS NOT NULL THEN
            UPDATE account SET balance = held + delta, version = held_version + 1
            WHERE owner_id = the_owner AND credit_type = the_type;
            RETURN ('posted', made, held + delta)::answer;
        END IF;
    END IF;
    SELECT 'posted', id, balance_after INTO first FROM entry
    WHERE app = the_app AND owner_id = the_owner AND command_id = the_command;
    IF FOUND THEN
        RETURN first;
    ELSIF EXISTS (SELECT FROM entry WHERE app = the_app AND owner_id = the_owner AND nonce = the_nonce) THEN
        RETURN ('duplicate nonce', NULL, held)::answer;
    END IF;
    RETURN ('insufficient credits', NULL, held)::answer;
END
$$
