-- $1 read model, $2 new version, $3 old version. What lies before the old version's offset lies before its
-- checkpoint, so the new one, which is not behind, needs none of it either.
-- $4 whether the ledger was restored: then what lies in the topic may be of the history that was lost, and workers
-- begin at its end, after reading the record.
UPDATE projections.checkpoint AS new
SET next_offset = CASE WHEN $4 THEN NULL ELSE old.next_offset END
FROM projections.checkpoint AS old
WHERE old.read_model = $1 AND old.version = $3
    AND new.read_model = old.read_model AND new.version = $2 AND new.partition = old.partition
