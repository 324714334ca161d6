SELECT partition, sequence FROM projections.checkpoint WHERE read_model = 'balances'
