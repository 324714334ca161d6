INSERT INTO example_app.content (content_id, owner_id, title, body) VALUES ($1, $2, $3, $4)
ON CONFLICT (content_id) DO NOTHING
