CREATE TRIGGER intervention_rows_stay BEFORE UPDATE OR DELETE ON ledger.intervention
    FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change()
