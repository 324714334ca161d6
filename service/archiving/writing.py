"""One file of an archive in the making: under another name until it is whole and on the disk."""

import contextlib
import gzip
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from service.archiving.description import Description
from service.archiving.lines import ArchivedEvent, encode_line
from service.archiving.manifest import UNFINISHED, ArchivedFile, folder_of, on_disk, sync_folder

COMPRESSION: Final = 3
"""Of gzip's levels: 6 makes files 10% smaller and takes more than twice the time."""


class FileOfEvents:
    """Takes the events of one partition in their order; `finish` gives them their name."""

    def __init__(self, folder: Path, partition: int, prev_hash: str) -> None:
        self.description = Description(partition, prev_hash)
        self._folder = folder
        self._unfinished = folder / folder_of(partition) / f"events{UNFINISHED}"
        with on_disk(self._unfinished):
            self._unfinished.parent.mkdir(exist_ok=True)
            self._raw = _Digesting(self._unfinished.open("wb"))
        # Without a name and a time in it, the same events always make the same file.
        self._gzip = gzip.GzipFile("", "wb", COMPRESSION, self._raw, mtime=0)

    def add(self, events: Sequence[ArchivedEvent]) -> None:
        """Write the next events. Raises FolderError."""
        for event in events:
            self.description.add(event)
        with on_disk(self._unfinished):
            self._gzip.write(b"".join(map(encode_line, events)))

    def finish(self) -> ArchivedFile:
        """Close the file, wait for the disk, give it its name. Raises FolderError."""
        with on_disk(self._unfinished):
            self._gzip.close()
            self._raw.sync()
            self._raw.close()
            described = self.description.of_file(self._raw.length, self._raw.digest.hexdigest())
            self._unfinished.replace(self._folder / described.path)
            sync_folder(self._unfinished.parent)
        return described

    def discard(self) -> None:
        """Remove what is there of it, when it is not to be finished."""
        for file in (self._gzip, self._raw):
            # The disk may be what it failed at; and it is thrown away anyhow.
            with contextlib.suppress(OSError, ValueError):
                file.close()
        with on_disk(self._unfinished):
            self._unfinished.unlink(missing_ok=True)


@contextmanager
def file_of_events(folder: Path, partition: int, prev_hash: str) -> Iterator[FileOfEvents]:
    """A file that is gone again unless it was finished within the block: an error, Ctrl-C."""
    file = FileOfEvents(folder, partition, prev_hash)
    try:
        yield file
    except BaseException:
        file.discard()
        raise


class _Digesting:
    """A file that knows the digest and length of what was written to it."""

    def __init__(self, file: BinaryIO) -> None:
        self.digest = hashlib.sha256()
        self.length = 0
        self._file = file

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.length += len(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()
