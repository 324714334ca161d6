SELECT head.partition
FROM unnest($1::integer[], $2::bigint[]) AS mine (partition, epoch)
JOIN ledger.partition_head AS head ON head.partition = mine.partition AND head.epoch = mine.epoch
