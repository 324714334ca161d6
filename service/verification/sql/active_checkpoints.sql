SELECT checkpoint.read_model, checkpoint.version, checkpoint.partition, checkpoint.sequence
FROM projections.read_model AS model
JOIN projections.checkpoint ON checkpoint.read_model = model.name AND checkpoint.version = model.active_version
