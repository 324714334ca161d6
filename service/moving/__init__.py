"""Moving a ledger to another number of partitions: export, import into a new ledger, comparison."""
