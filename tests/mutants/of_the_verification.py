"""What `ledger verify` finds in the stored record."""

from typing import Final

from tests.mutants.mutant import Mutant

_PARTITION: Final = "ledger/event_store/verification_partition.py"
_KEYS: Final = "ledger/event_store/verification_keys.py"
_PLANTED: Final = "tests/integration/test_verify.py::test_a_planted_violation_is_named"

MUTANTS: Final = (
    Mutant(
        "verify-chain",
        "`ledger verify` names an event whose fields and predecessor do not give its hash.",
        "12",
        _PARTITION,
        'if self.hash != row["hash"]:',
        "if False:",
        (_PLANTED,),
    ),
    Mutant(
        "verify-metadata",
        "`ledger verify` names metadata that were changed.",
        "12",
        _PARTITION,
        "if metadata is not None and (digest is None or metadata_digest(metadata) != digest):",
        "if False:",
        (_PLANTED,),
    ),
    Mutant(
        "verify-sequence",
        "`ledger verify` names an event that is missing.",
        "2",
        _PARTITION,
        "if sequence != self.sequence + 1:",
        "if False:",
        (_PLANTED,),
    ),
    Mutant(
        "verify-end",
        "`ledger verify` names events that are missing at the end.",
        "1",
        _PARTITION,
        "if self.sequence < head.sequence:",
        "if False:",
        (_PLANTED,),
    ),
    Mutant(
        "verify-arithmetic",
        "`ledger verify` names a balance that is not the one before plus the amount.",
        "6",
        _PARTITION,
        "if balance_after != balance + amount:",
        "if False:",
        (_PLANTED,),
    ),
    Mutant(
        "verify-place",
        "`ledger verify` names an event on another partition than its owner's.",
        "4",
        _PARTITION,
        "if home != partition:",
        "if False:",
        (_PLANTED,),
    ),
    Mutant(
        "verify-offsets",
        "`ledger verify` names a message that has two events.",
        "3",
        _PARTITION,
        "if offset == before:",
        "if False:",
        (_PLANTED,),
    ),
    Mutant(
        "verify-published",
        "`ledger verify` names a published mark that is ahead of the record.",
        "10",
        _PARTITION,
        "if head.published_sequence > head.sequence:",
        "if False:",
        (_PLANTED,),
    ),
    Mutant(
        "verify-command-keys",
        "`ledger verify` names an event whose command key is missing or another's.",
        "7",
        _KEYS,
        'if found is None or (found["command_id"], found["scope"]) != key:',
        "if False:",
        (_PLANTED,),
    ),
    Mutant(
        "verify-nonce-keys",
        "`ledger verify` names an entry whose nonce key is missing or another's.",
        "7",
        _KEYS,
        'if found is None or found["key"] != digest:',
        "if False:",
        (_PLANTED,),
    ),
)
