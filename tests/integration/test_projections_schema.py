"""The schema `projections`: what migrations make is what is declared, and goes and comes back."""

import asyncio
from typing import Any

import asyncpg
import pytest
from sqlalchemy import Connection, MetaData
from sqlalchemy.ext.asyncio import create_async_engine

from ledger.event_store import migrate
from ledger.event_store.identity import initialise
from projections import schema
from projections.registry import READ_MODELS
from projections.versions import install

pytestmark = pytest.mark.integration

CATALOGUE = """
    SELECT relation.relname, relation.relkind::text, relation.reloptions, relation.relacl::text,
        attribute.attname, format_type(attribute.atttypid, attribute.atttypmod) AS type, attribute.attnotnull,
        pg_get_expr(preset.adbin, preset.adrelid) AS preset, pg_get_constraintdef(rule.oid) AS rule
    FROM pg_class AS relation
    LEFT JOIN pg_attribute AS attribute ON attribute.attrelid = relation.oid AND attribute.attnum > 0
    LEFT JOIN pg_attrdef AS preset ON preset.adrelid = relation.oid AND preset.adnum = attribute.attnum
    LEFT JOIN pg_constraint AS rule ON rule.conrelid = relation.oid AND attribute.attnum = ANY (rule.conkey)
    WHERE relation.relnamespace = to_regnamespace('projections')
    ORDER BY relation.relname, attribute.attnum, rule.conname
"""


async def catalogue(url: str) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(CATALOGUE)]
    finally:
        await connection.close()


async def test_up_down_and_up_again_leaves_the_same_schema(empty_database_url: str) -> None:
    await asyncio.to_thread(migrate.upgrade, empty_database_url)
    first = await catalogue(empty_database_url)
    assert {row[0] for row in first} >= {"read_model", "checkpoint"}
    await asyncio.to_thread(migrate.downgrade, empty_database_url, "0001")
    assert await catalogue(empty_database_url) == []
    await asyncio.to_thread(migrate.upgrade, empty_database_url)
    assert await catalogue(empty_database_url) == first


async def test_read_models_go_with_the_schema(empty_database_url: str) -> None:
    await asyncio.to_thread(migrate.upgrade, empty_database_url)
    connection = await asyncpg.connect(empty_database_url)
    await initialise(connection, 3)
    await connection.close()
    await install(empty_database_url, READ_MODELS)
    installed = await catalogue(empty_database_url)
    await asyncio.to_thread(migrate.downgrade, empty_database_url, "0001")
    await asyncio.to_thread(migrate.upgrade, empty_database_url)
    await install(empty_database_url, READ_MODELS)
    assert await catalogue(empty_database_url) == installed


async def test_the_migrated_schema_is_the_declared_one(empty_database_url: str) -> None:
    await asyncio.to_thread(migrate.upgrade, empty_database_url)
    migrated = await catalogue(empty_database_url)

    def make(connection: Connection) -> None:
        schema.metadata.create_all(connection)

    connection = await asyncpg.connect(empty_database_url)
    # Made anew from the declaration, as the owner, under the same default privileges.
    await connection.execute("DROP TABLE projections.read_model, projections.checkpoint")
    await connection.close()
    engine = create_async_engine(
        empty_database_url.replace("postgresql://", "postgresql+asyncpg://"),
        connect_args={"server_settings": {"role": "ledger_owner"}},
    )
    async with engine.begin() as declared:
        await declared.run_sync(make)
    await engine.dispose()
    assert without_rights(await catalogue(empty_database_url)) == without_rights(migrated)
    assert isinstance(schema.metadata, MetaData)


def without_rights(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    # What the projector may not do is taken back by statements of the migration; the contract suite tests rights.
    return [row[:3] + row[4:] for row in rows]
