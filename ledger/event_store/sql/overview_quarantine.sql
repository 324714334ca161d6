SELECT app, reason, status, count(*) AS count
FROM ledger.quarantine
GROUP BY app, reason, status
ORDER BY app, reason, status
