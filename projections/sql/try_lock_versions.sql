-- One rebuild at a time: $1 a number that stands for it. Held until the connection ends.
SELECT pg_try_advisory_lock($1)
