-- $4 the new status, $5 what was done. Once only: two operators at the same message do not undo each other.
UPDATE ledger.quarantine
SET status = $4, resolution = $5, resolved_at = clock_timestamp()
WHERE app = $1 AND partition = $2 AND command_offset = $3 AND status = 'waiting'
RETURNING status
