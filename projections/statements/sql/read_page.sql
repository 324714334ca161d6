-- $1 owner, $2 its partition, $3 only what lies before this sequence, $4 whether rejections too, $5 how many,
-- $6 of this credit type only (NULL: of all).
-- No row at all: this version is not the active one (any more). A page and its checkpoint come from one snapshot.
SELECT checkpoint.sequence AS checkpoint_sequence, line.*
FROM projections.read_model AS model
JOIN projections.checkpoint
    ON checkpoint.read_model = model.name AND checkpoint.version = model.active_version AND checkpoint.partition = $2
LEFT JOIN LATERAL (
    (
        SELECT * FROM projections.statements_v{version}
        WHERE owner_id = $1 AND accepted AND sequence < $3 AND ($6::text IS NULL OR credit_type = $6)
        ORDER BY sequence DESC LIMIT $5
    )
    UNION ALL
    (
        SELECT * FROM projections.statements_v{version}
        WHERE $4::boolean AND owner_id = $1 AND NOT accepted AND sequence < $3 AND ($6::text IS NULL OR credit_type = $6)
        ORDER BY sequence DESC LIMIT $5
    )
    ORDER BY sequence DESC LIMIT $5
) AS line ON true
WHERE model.name = 'statements' AND model.active_version = {version}
ORDER BY line.sequence DESC
