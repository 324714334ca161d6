SELECT key.command_id, key.scope, key.partition, key.sequence
FROM unnest($1::uuid[], $2::uuid[]) AS wanted (command_id, scope)
JOIN ledger.command_key AS key ON key.command_id = wanted.command_id AND key.scope = wanted.scope
