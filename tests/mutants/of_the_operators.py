"""What halts, how widely, and what an operator may do about it."""

from typing import Final

from tests.mutants.mutant import Mutant

_SQL: Final = "alembic/sql/0005"
_STATEMENTS: Final = "ledger/event_store/sql"
_INTERVENTIONS: Final = "ledger/event_store/interventions.py"
_TEST_INTERVENTIONS: Final = "tests/contract/test_interventions.py"
_STAYS: Final = f"{_TEST_INTERVENTIONS}::test_what_was_done_is_written_down_and_stays"
_TEST_HALTS: Final = "tests/unit/test_ledger_consumer_halts.py"

MUTANTS: Final = (
    Mutant(
        "intervention-takes-the-partition",
        "Whatever an operator changes in a partition takes it from its holder first.",
        "11",
        f"{_STATEMENTS}/release_heads.sql",
        "SET epoch = epoch + 1,",
        "SET epoch = epoch,",
        (_TEST_INTERVENTIONS,),
    ),
    Mutant(
        "only-what-is-halted-is-resumed",
        "An operator resumes only a partition that is halted.",
        "recovery",
        _INTERVENTIONS,
        "            if not is_halted(head):\n",
        "            if False:\n",
        (_TEST_INTERVENTIONS,),
    ),
    Mutant(
        "record-is-put-aside-where-it-stands",
        "An operator puts aside only the record at which its partition stands.",
        "3",
        _INTERVENTIONS,
        "if not stands_at(heads[0], app, record.offset):",
        "if False:",
        (_TEST_INTERVENTIONS,),
    ),
    Mutant(
        "marks-unchanged-meanwhile",
        "An operator moves no offset that a consumer has moved meanwhile.",
        "1, 3",
        _INTERVENTIONS,
        "if (await read_marks_of(connection, app)).get(partition) != before:",
        "if False:",
        (_TEST_INTERVENTIONS,),
    ),
    Mutant(
        "interventions-stay",
        "What an operator did is never changed or deleted.",
        "recovery",
        f"{_SQL}/20_intervention_rows_stay.up.sql",
        "UPDATE OR DELETE",
        "UPDATE",
        (_STAYS,),
    ),
    Mutant(
        "generations-stay",
        "Which log of a topic an event came from is never changed or deleted.",
        "3",
        f"{_SQL}/20_command_generation_rows_stay.up.sql",
        "UPDATE OR DELETE",
        "DELETE",
        (_STAYS,),
    ),
    Mutant(
        "interventions-are-not-truncated",
        "What operators did is never emptied.",
        "recovery",
        f"{_SQL}/21_intervention_is_never_emptied.up.sql",
        "BEFORE TRUNCATE",
        "BEFORE UPDATE",
        (_STAYS,),
    ),
    Mutant(
        "generations-are-not-truncated",
        "Which logs there were is never emptied.",
        "3",
        f"{_SQL}/21_command_generation_is_never_emptied.up.sql",
        "BEFORE TRUNCATE",
        "BEFORE UPDATE",
        (_STAYS,),
    ),
    Mutant(
        "quarantine-is-resolved-once",
        "Two operators at one quarantined message do not undo each other.",
        "3",
        f"{_STATEMENTS}/resolve_quarantined.sql",
        "AND status = 'waiting'",
        "",
        (_TEST_INTERVENTIONS,),
    ),
    Mutant(
        "clocks-too-far-apart",
        "Nothing is decided while this machine's clock and the database's are far apart.",
        "availability",
        "consumers/holdings.py",
        "waits = abs(ahead_s) > self._skew_limit_s",
        "waits = False",
        (_TEST_HALTS,),
    ),
    Mutant(
        "taken-by-an-operator",
        "What an operator has taken and left free is claimed again by its holder, without a rebalance.",
        "availability",
        "consumers/holdings.py",
        "self.drop(alive.released)",
        "pass",
        (_TEST_HALTS,),
    ),
    Mutant(
        "halted-app-is-not-read",
        "Of an app that is halted on a partition nothing is read there.",
        "1, 3",
        "consumers/held_partition.py",
        "return self.halted_because is None and app not in self.halted_apps",
        "return self.halted_because is None",
        ("tests/unit/test_ledger_consumer_guards.py", _TEST_HALTS),
    ),
    Mutant(
        "halt-of-one-app",
        "A log of one app that is not the one that was consumed halts that app there, and no other.",
        "availability",
        "consumers/held_partition.py",
        "return self.halted_because is None and app not in self.halted_apps",
        "return self.halted_because is None and not self.halted_apps",
        (f"{_TEST_HALTS}::test_a_log_that_is_not_the_one_of_the_record_halts_its_app_and_no_other",),
    ),
    Mutant(
        "log-compared-after-postgres-was-away",
        "What was away is compared again: while Postgres was, nobody watched the logs.",
        "1, 3",
        "consumers/ledger_consumer.py",
        "self._holdings.compare_logs()  # nobody fetches meanwhile",
        "pass  # nobody fetches meanwhile",
        (_TEST_HALTS,),
    ),
    Mutant(
        "log-compared-after-kafka-was-away",
        "What was away is compared again: what answers as Kafka may hold another log.",
        "1, 3",
        "consumers/ledger_consumer.py",
        "self._holdings.compare_logs()  # no broker answers",
        "pass  # no broker answers",
        (_TEST_HALTS,),
    ),
    Mutant(
        "log-compared-after-a-broker-disowned-it",
        "A log that its broker did not know for a moment is compared again.",
        "1, 3",
        "consumers/ledger_consumer.py",
        "        if doubtful:",
        "        if False:",
        (_TEST_HALTS,),
    ),
)
