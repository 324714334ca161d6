"""What everybody may do by default: connect, make temporary tables, call functions. From here on, nobody may."""

from pathlib import Path
from typing import Final

from alembic import op

revision: Final = "0003"
down_revision: Final = "0002"
branch_labels: Final = None
depends_on: Final = None

_SQL: Final = Path(__file__).parent.parent / "sql" / revision


def upgrade() -> None:
    """One statement a file, in the order of their names."""
    for file in sorted(_SQL.glob("*.up.sql")):
        op.execute(file.read_text().replace(":", r"\:"))


def downgrade() -> None:
    """Everybody may again; the record is untouched."""
    for file in sorted(_SQL.glob("*.down.sql")):
        op.execute(file.read_text().replace(":", r"\:"))
