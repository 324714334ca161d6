SELECT owner_id, partition, sequence, balance, occurred_at
FROM example_app.notice
WHERE owner_id = $1
ORDER BY partition DESC, sequence DESC
LIMIT $2
