SELECT content_id, owner_id, title, body, created_at, position
FROM example_app.content
WHERE content_id = $1 AND position IS NOT NULL
