"""What a manifest must be in itself, before any file is looked at."""

from ledger.domain.chain import GENESIS
from service.archiving.manifest import Manifest, place_of


def what_is_wrong_with(manifest: Manifest) -> str | None:
    """Why these files are not, of each partition, the events from the first one on; None when they are."""
    if list(manifest.files) != sorted(manifest.files, key=lambda file: (file.partition, file.first_sequence)):
        return "the manifest does not list its files in their order"
    ends: dict[int, tuple[int, str]] = {}
    for file in manifest.files:
        where = f"{file.partition}:{file.first_sequence}"
        last, last_hash = ends.get(file.partition, (0, GENESIS.hex()))
        if file.partition >= manifest.partitions:
            return f"the manifest names {where}, but the ledger has {manifest.partitions} partitions"
        if file.first_sequence != last + 1:
            return f"the manifest goes on with {where} behind {file.partition}:{last}"
        if file.events != file.last_sequence - file.first_sequence + 1 or file.accepted > file.events:
            return f"the manifest counts {file.events} events from {where} to {file.last_sequence}"
        # Only such paths: a manifest that came from elsewhere names no file outside of its folder.
        if file.path != place_of(file.partition, file.first_sequence, file.last_sequence):
            return f"the manifest says that {where} lies in {file.path!r}"
        if file.first_prev_hash != last_hash:
            return f"{where} follows {file.first_prev_hash}, but the event before it has hash {last_hash}"
        ends[file.partition] = (file.last_sequence, file.last_hash)
    return None
