INSERT INTO account (owner_id, balance) SELECT owner_id, 0 FROM unnest($1::text[]) AS owner_id
