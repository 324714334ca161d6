DELETE FROM example_app.content WHERE content_id = $1 AND owner_id = $2 AND position IS NULL
