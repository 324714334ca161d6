"""API keys of the HTTP service: who may come in, as which app, to do what."""

from pathlib import Path
from typing import Final

from alembic import context, op

revision: Final = "0004"
down_revision: Final = "0003"
branch_labels: Final = None
depends_on: Final = None

_SQL: Final = Path(__file__).parent.parent / "sql" / revision


def upgrade() -> None:
    """One statement a file, in the order of their names."""
    for file in sorted(_SQL.glob("*.up.sql")):
        op.execute(file.read_text().replace(":", r"\:"))


def downgrade() -> None:
    """Refused while there are keys: without the table the HTTP service would ask for none."""
    discard = context.get_x_argument(as_dictionary=True).get("discard-events") == "yes"
    if op.get_bind().exec_driver_sql((_SQL / "any_key.sql").read_text()).scalar() and not discard:
        raise SystemExit("there are API keys; to throw them and all events away, say so: -x discard-events=yes")
    for file in sorted(_SQL.glob("*.down.sql")):
        op.execute(file.read_text().replace(":", r"\:"))
