DROP TABLE IF EXISTS projections.statements_v{version}
