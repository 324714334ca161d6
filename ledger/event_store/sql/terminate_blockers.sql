-- $1 the backend that waits for a claim. A holder that was stopped in mid-COPY keeps its locks without end, and no
-- timeout of Postgres fires for it: only termination is served.
SELECT pg_terminate_backend(pid) FROM unnest(pg_blocking_pids($1)) AS pid
