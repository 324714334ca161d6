CREATE TRIGGER command_generation_rows_stay BEFORE UPDATE OR DELETE ON ledger.command_generation
    FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change()
