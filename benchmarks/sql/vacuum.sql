-- What autovacuum would do in the middle of a measurement.
VACUUM (ANALYZE)
