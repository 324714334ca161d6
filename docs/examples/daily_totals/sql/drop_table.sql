DROP TABLE IF EXISTS projections.daily_totals_v{version}
