"""The read models' machinery: schema `projections`, which version of each is active, and how far each has got.

The read models' own tables are not made here: each version has its own, made by `projections.versions` from the folder
of the read model, so that a new read model and a rebuild need no migration.
"""

from pathlib import Path
from typing import Final

from alembic import op

revision: Final = "0002"
down_revision: Final = "0001"
branch_labels: Final = None
depends_on: Final = None

_SQL: Final = Path(__file__).parent.parent / "sql" / revision


def upgrade() -> None:
    """One statement a file, in the order of their names."""
    for file in sorted(_SQL.glob("*.up.sql")):
        op.execute(file.read_text().replace(":", r"\:"))


def downgrade() -> None:
    """Nothing is lost: every read model can be made again from the record."""
    for file in sorted(_SQL.glob("*.down.sql")):
        op.execute(file.read_text().replace(":", r"\:"))
