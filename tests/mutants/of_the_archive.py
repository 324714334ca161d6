"""What `ledger archive` writes, and what `ledger verify --archive` finds."""

from typing import Final

from tests.mutants.mutant import Mutant

_NAMED: Final = "tests/unit/test_archiving.py::test_what_was_done_to_it_is_named"
_ON_SERVERS: Final = "tests/integration/test_archiving.py"

MUTANTS: Final = (
    Mutant(
        "archive-chain",
        "An archived event whose fields and predecessor do not give its hash is named.",
        "12",
        "service/archiving/lines.py",
        "if computed != event.hash:",
        "if False:",
        (_NAMED,),
    ),
    Mutant(
        "archive-follows",
        "An archived event that does not follow the one before it is named.",
        "12",
        "service/archiving/lines.py",
        "if event.prev_hash != prev_hash:",
        "if False:",
        (_NAMED,),
    ),
    Mutant(
        "archive-metadata",
        "Metadata that were changed in an archive are named.",
        "12",
        "service/archiving/lines.py",
        "if event.metadata is not None and metadata_digest(event.metadata).hex() != event.metadata_digest:",
        "if False:",
        (_NAMED,),
    ),
    Mutant(
        "archive-digest",
        "A file of an archive that was changed is named.",
        "12",
        "service/archiving/checking.py",
        "if sha256 != listed.sha256:",
        "if False:",
        (_NAMED,),
    ),
    Mutant(
        "archive-gap",
        "A file that the manifest of an archive leaves out is named.",
        "2",
        "service/archiving/layout.py",
        "if file.first_sequence != last + 1:",
        "if False:",
        (_NAMED,),
    ),
    Mutant(
        "archive-settled",
        "Only what is published and projected is archived.",
        "archive is settled",
        "service/archiving/sql/archivable.sql",
        "least(head.published_sequence, min(checkpoint.sequence))",
        "head.sequence",
        (f"{_ON_SERVERS}::test_what_is_not_published_and_projected_stays_out",),
    ),
    Mutant(
        "archive-of-this-ledger",
        "An archive that does not fit the record is not gone on with.",
        "1",
        "service/archiving/archive.py",
        "if recorded is None or recorded.hex() != archived_hash:",
        "if False:",
        (f"{_ON_SERVERS}::test_what_is_not_this_ledgers_archive_is_left_as_it_is",),
    ),
    Mutant(
        "archive-joins-record",
        "An archive whose last event is not the one of the record is named.",
        "12",
        "service/archiving/joining.py",
        "if last and (recorded is None or recorded.hex() != last_hash):",
        "if False:",
        (f"{_ON_SERVERS}::test_a_forger_who_knows_how_is_found_by_the_record",),
    ),
    Mutant(
        "archive-totals",
        "Balances that are not what archive and record add up to are named.",
        "6",
        "service/archiving/joining.py",
        "if amounts[credit_type] != balances[credit_type]:",
        "if False:",
        (f"{_ON_SERVERS}::test_a_record_that_does_not_go_on_is_named",),
    ),
)
