CREATE TRIGGER nonce_key_is_never_emptied BEFORE TRUNCATE ON ledger.nonce_key
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change()
