-- Only what a key opens and the digest of its secret. Rows stay when a key is revoked: see ledger/api_keys/store.py.
CREATE TABLE ledger.api_key (
    id text COLLATE "C" NOT NULL,
    app text COLLATE "C" NOT NULL,
    scopes text[] COLLATE "C" NOT NULL,
    digest bytea NOT NULL,
    label text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_by text COLLATE "C" NOT NULL,
    expires_at timestamptz,
    last_used_at timestamptz,
    revoked_at timestamptz,
    revoked_by text COLLATE "C",
    CONSTRAINT api_key_pkey PRIMARY KEY (id),
    CONSTRAINT api_key_digest_is_sha256 CHECK (octet_length(digest) = 32),
    CONSTRAINT api_key_opens_something CHECK (cardinality(scopes) > 0)
)
