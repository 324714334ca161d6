-- $1 read model, $2 new version, $3 old version. What lies before the old version's offset lies before its
-- checkpoint, so the new one, which is not behind, needs none of it either.
UPDATE projections.checkpoint AS new
SET next_offset = old.next_offset
FROM projections.checkpoint AS old
WHERE old.read_model = $1 AND old.version = $3
    AND new.read_model = old.read_model AND new.version = $2 AND new.partition = old.partition
