-- position: where the debit was posted that made the content visible; null before that.
CREATE TABLE IF NOT EXISTS example_app.content (
    content_id text PRIMARY KEY,
    owner_id text NOT NULL,
    title text NOT NULL,
    body text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    position text
)
