"""Guards of a move to another number of partitions: export, import, comparison."""

from typing import Final

from tests.mutants.mutant import Mutant

_CHAIN: Final = "service/moving/exported_chain.py"
_FILES: Final = "service/moving/export_files.py"
_IMPORTING: Final = "service/moving/importing.py"
_PLACING: Final = "service/moving/placing.py"
_COMPARING: Final = "service/moving/comparing.py"
_KEEPS: Final = "tests/properties/test_moving.py::test_a_move_keeps_everything_that_owners_and_apps_know"
_CUT_SHORT: Final = "tests/properties/test_moving.py::test_a_move_that_is_cut_short_anywhere_goes_on_to_the_same_end"
_REFUSED: Final = "tests/integration/test_moving.py::test_what_is_no_whole_export_or_no_new_ledger_is_refused_by_name"
_IN_THE_MIDDLE: Final = (
    "tests/integration/test_moving.py"
    "::test_a_consumer_that_is_started_in_the_middle_halts_and_the_import_goes_on_afterwards"
)
_CHANGED: Final = "tests/integration/test_moving.py::test_a_record_that_was_changed_is_not_exported"

MUTANTS: Final = (
    Mutant(
        "moved-nonce-names-its-new-place",
        "A refusal for a used nonce names the entry's place in the new ledger.",
        "a move keeps",
        _PLACING,
        "if event.reason == Reason.DUPLICATE_NONCE:\n            detail",
        "if False:\n            detail",
        (_KEEPS,),
    ),
    Mutant(
        "import-goes-on-where-it-was",
        "An import that was cut short appends only what is missing.",
        "a move keeps",
        _IMPORTING,
        "while done < already and",
        "while False and",
        (_CUT_SHORT,),
    ),
    Mutant(
        "import-begins-with-a-mark",
        "A consumer that is started in the middle of an import halts, because its topics end before what is consumed.",
        "a move keeps",
        _IMPORTING,
        "begun = imported_mark(FIRST_OFFSET)",
        "begun = imported_mark(0)",
        (_IN_THE_MIDDLE,),
    ),
    Mutant(
        "export-is-chained",
        "An event of an export or of the exported record that was changed is refused.",
        "12",
        _CHAIN,
        "if wrong is not None:",
        "if False:",
        (_CHANGED, _REFUSED),
    ),
    Mutant(
        "export-has-all-its-lines",
        "An export whose file lacks lines is refused.",
        "a move keeps",
        _FILES,
        "if number != file.lines:",
        "if False:",
        (_REFUSED,),
    ),
    Mutant(
        "compare-sees-a-change",
        "`ledger compare` names an event that the record holds otherwise.",
        "a move keeps",
        _COMPARING,
        "if ours != theirs:",
        "if False:",
        (_CHANGED,),
    ),
)
