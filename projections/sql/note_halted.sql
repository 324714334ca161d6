UPDATE projections.checkpoint SET halted_because = $5
WHERE read_model = $1 AND version = $2 AND partition = $3 AND epoch = $4
