SELECT checkpoint.partition, checkpoint.sequence
FROM projections.checkpoint
JOIN projections.read_model ON read_model.name = checkpoint.read_model
    AND read_model.active_version = checkpoint.version
WHERE checkpoint.read_model = 'balances'
