CREATE TRIGGER command_key_rows_stay BEFORE UPDATE OR DELETE ON ledger.command_key
    FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change()
