DELETE FROM projections.checkpoint WHERE read_model = $1 AND version = $2
