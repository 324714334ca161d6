-- What operators did by hand. before and after: JSON, what was changed.
CREATE TABLE ledger.intervention (
    number bigint GENERATED ALWAYS AS IDENTITY,
    made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    operator text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    subject text COLLATE "C" NOT NULL,
    reason text COLLATE "C" NOT NULL,
    before text COLLATE "C" NOT NULL,
    after text COLLATE "C" NOT NULL,
    CONSTRAINT intervention_pkey PRIMARY KEY (number)
)
