CREATE TRIGGER intervention_is_never_emptied BEFORE TRUNCATE ON ledger.intervention
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change()
