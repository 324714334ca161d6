CREATE TRIGGER command_generation_is_never_emptied BEFORE TRUNCATE ON ledger.command_generation
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change()
