-- $1 a sequence: answers the first one behind the part of the event table that holds it.
SELECT ledger.ensure_event_part($1)
