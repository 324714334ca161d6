-- For the statements that take no parameters, until the end of the transaction.
SELECT set_config('ledger.login', $1, true), set_config('ledger.verifier', $2, true), set_config('ledger.group', $3, true)
