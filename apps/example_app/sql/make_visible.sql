UPDATE example_app.content SET position = $3 WHERE content_id = $1 AND owner_id = $2 AND position IS NULL
