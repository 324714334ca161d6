SELECT checkpoint.version, max(model.active_version) AS active_version
FROM projections.checkpoint
LEFT JOIN projections.read_model AS model ON model.name = checkpoint.read_model
WHERE checkpoint.read_model = $1
GROUP BY checkpoint.version
