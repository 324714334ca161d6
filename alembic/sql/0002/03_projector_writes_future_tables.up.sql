-- Each version of a read model has tables of its own, which `ledger rebuild` makes later.
ALTER DEFAULT PRIVILEGES FOR ROLE ledger_owner IN SCHEMA projections
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO ledger_projector
