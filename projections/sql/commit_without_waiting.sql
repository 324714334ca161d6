-- A crash of the server may take back the last moments of a read model, rows and checkpoint together: they are read
-- from Kafka again. Claims wait for the disk (claim_durably).
SET synchronous_commit = off
