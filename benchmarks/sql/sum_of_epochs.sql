-- Rises when somebody takes a partition.
SELECT (SELECT sum(epoch) FROM ledger.partition_head) + (SELECT sum(epoch) FROM projections.checkpoint)
