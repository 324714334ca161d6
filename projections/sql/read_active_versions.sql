SELECT name, active_version FROM projections.read_model
