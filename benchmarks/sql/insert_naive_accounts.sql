INSERT INTO account (owner_id, credit_type, balance, version)
SELECT owner_id, $2, 0, 0 FROM unnest($1::text[]) AS owner_id
