-- An account to which no accepted entry belongs; asked only when the numbers differ.
SELECT account.owner_id, account.credit_type
FROM ledger.account AS account
WHERE NOT EXISTS (
    SELECT FROM ledger.event AS event
    WHERE event.owner_id = account.owner_id AND event.credit_type = account.credit_type AND event.reason IS NULL
)
ORDER BY account.owner_id, account.credit_type
LIMIT 1
