-- As they are when a read model is new. $1 the hash that the first event follows.
UPDATE projections.checkpoint
SET sequence = 0, hash = $1, next_offset = 0, holder = NULL, claimed_at = NULL
