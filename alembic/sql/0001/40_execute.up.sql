REVOKE EXECUTE ON FUNCTION ledger.ensure_event_part(bigint) FROM PUBLIC
