CREATE TRIGGER command_key_is_never_emptied BEFORE TRUNCATE ON ledger.command_key
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change()
