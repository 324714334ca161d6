-- {balances} and {statements} are the active versions.
TRUNCATE projections.balances_v{balances}, projections.statements_v{statements}
