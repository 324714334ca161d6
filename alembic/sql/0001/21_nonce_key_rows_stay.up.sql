CREATE TRIGGER nonce_key_rows_stay BEFORE UPDATE OR DELETE ON ledger.nonce_key
    FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change()
