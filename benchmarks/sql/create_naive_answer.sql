-- What became of a command, for whoever sent it.
CREATE TYPE answer AS (outcome text, entry_id bigint, balance bigint)
