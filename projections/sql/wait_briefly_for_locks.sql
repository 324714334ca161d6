-- Whoever waits for a table to be dropped makes all later readers of it wait.
SET LOCAL lock_timeout = '200ms'
