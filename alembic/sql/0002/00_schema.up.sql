-- Creating a schema is a right on the database, which the migrating user has and the owner of the tables has not.
CREATE SCHEMA projections AUTHORIZATION ledger_owner
