-- As try_lock_versions, and waits.
SELECT pg_advisory_lock($1)
