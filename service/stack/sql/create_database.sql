-- The ledger's database on a server that was just initialised (which has only `postgres`).
CREATE DATABASE ledger
