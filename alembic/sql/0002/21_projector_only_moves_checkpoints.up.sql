REVOKE INSERT, DELETE ON projections.checkpoint FROM ledger_projector
