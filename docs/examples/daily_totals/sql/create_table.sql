CREATE TABLE projections.daily_totals_v{version} (
    partition integer NOT NULL,
    day date NOT NULL,
    app text COLLATE "C" NOT NULL,
    operation text COLLATE "C" NOT NULL,
    credit_type text COLLATE "C" NOT NULL,
    entries bigint NOT NULL,
    rejections bigint NOT NULL,
    amount bigint NOT NULL,
    PRIMARY KEY (day, app, operation, credit_type, partition)
)
