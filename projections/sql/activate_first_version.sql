INSERT INTO projections.read_model (name, active_version) VALUES ($1, $2)
