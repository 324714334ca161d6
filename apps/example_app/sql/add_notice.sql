INSERT INTO example_app.notice (owner_id, partition, sequence, balance, occurred_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT DO NOTHING
