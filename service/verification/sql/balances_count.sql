SELECT count(*) FROM projections.balances_v{version}
