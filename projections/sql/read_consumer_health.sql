SELECT partition, holder, sequence, sequence - published_sequence AS unpublished, halted_because,
    halted_apps,
    extract(epoch FROM clock_timestamp() - seen_at)::double precision AS silent_s
FROM ledger.partition_head
ORDER BY partition
