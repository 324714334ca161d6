-- $1 app, $2 partition, $3 generation, $4 where the one before ended; its events begin behind the head as it is now
INSERT INTO ledger.command_generation (app, partition, generation, first_sequence, ended_offset)
SELECT $1, partition, $3, sequence + 1, $4 FROM ledger.partition_head WHERE partition = $2
