CREATE TABLE ledger.nonce_key (
    key uuid NOT NULL,
    partition integer NOT NULL,
    sequence bigint NOT NULL,
    CONSTRAINT nonce_key_pkey PRIMARY KEY (key)
)
