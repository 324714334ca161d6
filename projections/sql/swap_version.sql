-- $1 read model, $2 new version, $3 old version, $4 whether it may be behind. Otherwise only where the new one is
-- nowhere behind the old one.
UPDATE projections.read_model
SET active_version = $2, activated_at = clock_timestamp()
WHERE name = $1 AND active_version = $3 AND ($4 OR NOT EXISTS (
    SELECT FROM projections.checkpoint AS old
    LEFT JOIN projections.checkpoint AS new
        ON new.read_model = old.read_model AND new.version = $2 AND new.partition = old.partition
    WHERE old.read_model = $1 AND old.version = $3 AND (new.sequence IS NULL OR new.sequence < old.sequence)
))
