"""What operators do by hand is recorded, and an app's topic may be made anew: generations of its log."""

from pathlib import Path
from typing import Final

from alembic import context, op

revision: Final = "0005"
down_revision: Final = "0004"
branch_labels: Final = None
depends_on: Final = None

_SQL: Final = Path(__file__).parent.parent / "sql" / revision


def upgrade() -> None:
    """One statement a file, in the order of their names."""
    for file in sorted(_SQL.glob("*.up.sql")):
        op.execute(file.read_text().replace(":", r"\:"))


def downgrade() -> None:
    """Refused while operators' deeds are recorded: they are the only copy. `-x discard-events=yes` says otherwise."""
    discard = context.get_x_argument(as_dictionary=True).get("discard-events") == "yes"
    recorded = op.get_bind().exec_driver_sql((_SQL / "any_intervention.sql").read_text()).scalar()
    if recorded and not discard:
        raise SystemExit("operators' interventions are recorded; to throw them away, say so: -x discard-events=yes")
    for file in sorted(_SQL.glob("*.down.sql")):
        op.execute(file.read_text().replace(":", r"\:"))
