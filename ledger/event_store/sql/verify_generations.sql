SELECT app, partition, generation, first_sequence, ended_offset
FROM ledger.command_generation
ORDER BY app, partition, generation
