-- The key is the event's position: an event that is handled twice gives one notice.
CREATE TABLE IF NOT EXISTS example_app.notice (
    owner_id text NOT NULL,
    partition integer NOT NULL,
    sequence bigint NOT NULL,
    balance bigint NOT NULL,
    occurred_at timestamptz NOT NULL,
    PRIMARY KEY (owner_id, partition, sequence)
)
