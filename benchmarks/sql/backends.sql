-- The server's processes by what they do, connections by their name.
SELECT pid, coalesce(nullif(application_name, ''), backend_type) AS name
FROM pg_stat_activity
WHERE pid <> pg_backend_pid() AND (datname IS NULL OR datname = current_database())
