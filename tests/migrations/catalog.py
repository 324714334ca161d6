"""What Postgres's own catalogs say about a database: everything that a migration makes, as comparable texts."""

from collections.abc import Sequence
from typing import Final

import asyncpg

_RELATIONS: Final = """
    SELECT 'relation ' || relation.oid::regclass, concat_ws(' ', relkind, pg_get_userbyid(relowner),
        array_to_string(ARRAY(SELECT unnest(relacl)::text ORDER BY 1), ','), array_to_string(reloptions, ','),
        pg_get_partkeydef(relation.oid), pg_get_expr(relpartbound, relation.oid))
    FROM pg_class AS relation
    WHERE relnamespace::regnamespace::text = ANY ($1) AND relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
"""
_COLUMNS: Final = """
    SELECT 'column ' || attrelid::regclass || '.' || attname, concat_ws(' ',
        row_number() OVER (PARTITION BY attrelid ORDER BY attnum), format_type(atttypid, atttypmod),
        CASE WHEN attnotnull THEN 'NOT NULL' END, pg_get_expr(adbin, adrelid), collname, attidentity, attgenerated,
        attstorage, attacl)
    FROM pg_attribute
    JOIN pg_class AS relation ON relation.oid = attrelid AND relkind IN ('r', 'p', 'v', 'm', 'f')
    LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    LEFT JOIN pg_collation ON pg_collation.oid = attcollation
    WHERE relnamespace::regnamespace::text = ANY ($1) AND attnum > 0 AND NOT attisdropped
"""
_CONSTRAINTS: Final = """
    SELECT 'constraint ' || conrelid::regclass || '.' || conname, concat_ws(' ', contype, pg_get_constraintdef(oid),
        convalidated)
    FROM pg_constraint WHERE connamespace::regnamespace::text = ANY ($1)
"""
_INDEXES: Final = """
    SELECT 'index ' || indexrelid::regclass, concat_ws(' ', pg_get_indexdef(indexrelid), indisunique, indisvalid)
    FROM pg_index JOIN pg_class AS relation ON relation.oid = indrelid
    WHERE relnamespace::regnamespace::text = ANY ($1)
"""
_TRIGGERS: Final = """
    SELECT 'trigger ' || tgrelid::regclass || '.' || tgname, concat_ws(' ', pg_get_triggerdef(trigger.oid), tgenabled)
    FROM pg_trigger AS trigger JOIN pg_class AS relation ON relation.oid = tgrelid
    WHERE relnamespace::regnamespace::text = ANY ($1) AND NOT tgisinternal
"""
_FUNCTIONS: Final = """
    SELECT 'function ' || oid::regprocedure, concat_ws(' ', pg_get_functiondef(oid), pg_get_userbyid(proowner),
        array_to_string(ARRAY(SELECT unnest(coalesce(proacl, acldefault('f', proowner)))::text ORDER BY 1), ','))
    FROM pg_proc WHERE pronamespace::regnamespace::text = ANY ($1)
"""
_SCHEMAS: Final = """
    SELECT 'schema ' || nspname, concat_ws(' ', pg_get_userbyid(nspowner),
        array_to_string(ARRAY(SELECT unnest(nspacl)::text ORDER BY 1), ','))
    FROM pg_namespace WHERE nspname = ANY ($1)
"""
_DEFAULT_RIGHTS: Final = """
    SELECT 'default rights ' || concat_ws(' ', pg_get_userbyid(defaclrole), defaclnamespace::regnamespace,
        defaclobjtype), array_to_string(ARRAY(SELECT unnest(defaclacl)::text ORDER BY 1), ',')
    FROM pg_default_acl WHERE defaclnamespace::regnamespace::text = ANY ($1)
"""
STRUCTURE: Final = (_COLUMNS, _CONSTRAINTS, _INDEXES)
EVERYTHING: Final = (*STRUCTURE, _RELATIONS, _TRIGGERS, _FUNCTIONS, _SCHEMAS, _DEFAULT_RIGHTS)
SCHEMAS: Final = ("ledger", "projections")


async def catalog(url: str, queries: Sequence[str] = EVERYTHING) -> dict[str, str]:
    """What is there, by name, in the schemas that migrations make."""
    connection = await asyncpg.connect(url, server_settings={"search_path": "pg_catalog"})
    try:
        found: dict[str, str] = {}
        for query in queries:
            rows = await connection.fetch(query, SCHEMAS)
            assert len({row[0] for row in rows}) == len(rows), "two things of one name"
            found |= {row[0]: row[1] for row in rows}
        return found
    finally:
        await connection.close()
