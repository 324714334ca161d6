-- $1 partitions, $2 how far each is archived: what the record holds behind that, by credit type.
SELECT archived.partition, event.credit_type, count(*) AS events, sum(event.amount)::text AS amount
FROM unnest($1::integer[], $2::bigint[]) AS archived (partition, sequence)
JOIN ledger.event AS event ON event.partition = archived.partition AND event.sequence > archived.sequence
GROUP BY archived.partition, event.credit_type
