-- $5 the new status, $6 what was done, $7 the command id under which it was published again. Once only: two operators
-- at the same message do not undo each other.
UPDATE ledger.quarantine
SET status = $5, resolution = $6, resolved_at = clock_timestamp(), retried_as = $7
WHERE app = $1 AND partition = $2 AND generation = $3 AND command_offset = $4 AND status = 'waiting'
RETURNING status
