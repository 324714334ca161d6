-- Which version is active is decided by a rebuild alone, which acts as the owner.
REVOKE INSERT, UPDATE, DELETE ON projections.read_model FROM ledger_projector
