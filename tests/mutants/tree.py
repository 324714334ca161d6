"""A copy of the project in which guards are taken away, one at a time, and put back."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.mutants.mutant import Mutant

ROOT: Final = Path(__file__).parents[2]
_NOT_COPIED: Final = shutil.ignore_patterns(
    ".git", ".venv", ".ledger", "__pycache__", ".*_cache", ".hypothesis", "build", "dist", "*.egg-info"
)


class Tree:
    """Used by one worker."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextmanager
    def without(self, mutant: Mutant) -> Iterator[None]:
        """The copy without one guard, for the time of the block."""
        path = self.root / mutant.file
        text, times = path.read_text(), path.stat()
        path.write_text(mutant.mutated(self.root))
        # Python takes a compiled file for current when time and size of the source agree: so the time must differ.
        os.utime(path, (times.st_atime, times.st_mtime - 1_000_000))
        try:
            yield
        finally:
            path.write_text(text)
            os.utime(path, (times.st_atime, times.st_mtime))


@contextmanager
def copied_tree() -> Iterator[Tree]:
    """A copy in a temporary folder, removed at the end."""
    with tempfile.TemporaryDirectory(prefix="ledger-mutants-", ignore_cleanup_errors=True) as folder:
        root = Path(folder) / "project"
        shutil.copytree(ROOT, root, ignore=_NOT_COPIED)
        # Local servers that tests start drop to another account.
        Path(folder).chmod(0o755)
        yield Tree(root)
