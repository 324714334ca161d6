DROP TABLE IF EXISTS projections.balances_v{version}
