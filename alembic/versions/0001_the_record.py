"""The record: schema `ledger`, the roles, the append-only event table and its keys."""

from pathlib import Path
from typing import Final

from alembic import context, op

revision: Final = "0001"
down_revision: Final = None
branch_labels: Final = None
depends_on: Final = None

_SQL: Final = Path(__file__).parent.parent / "sql" / revision


def upgrade() -> None:
    """One statement a file, in the order of their names."""
    for file in sorted(_SQL.glob("*.up.sql")):
        op.execute(file.read_text().replace(":", r"\:"))


def downgrade() -> None:
    """Refused while events exist: they are the only copy. `-x discard-events=yes` says otherwise."""
    discard = context.get_x_argument(as_dictionary=True).get("discard-events") == "yes"
    events = op.get_bind().exec_driver_sql((_SQL / "any_event.sql").read_text()).scalar()
    if events and not discard:
        raise SystemExit("the record holds events; to throw them away, say so: -x discard-events=yes")
    for file in sorted(_SQL.glob("*.down.sql")):
        op.execute(file.read_text().replace(":", r"\:"))
