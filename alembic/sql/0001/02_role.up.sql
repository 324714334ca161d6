-- From here on everything belongs to the owner, who cannot log in.
SET LOCAL ROLE ledger_owner
