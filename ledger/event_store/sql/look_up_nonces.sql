SELECT key.key, key.partition, key.sequence FROM ledger.nonce_key AS key WHERE key.key = ANY ($1::uuid[])
