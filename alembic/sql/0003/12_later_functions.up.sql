-- Not `IN SCHEMA`: what everybody may do by default is only taken away from all of the owner's functions at once.
ALTER DEFAULT PRIVILEGES FOR ROLE ledger_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC
