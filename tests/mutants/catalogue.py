"""All mutants."""

from typing import Final

from tests.mutants import (
    of_one_statement,
    of_the_archive,
    of_the_consumer,
    of_the_decisions,
    of_the_doors,
    of_the_messages,
    of_the_move,
    of_the_operators,
    of_the_producers,
    of_the_projections,
    of_the_record,
    of_the_schema,
    of_the_subscriber,
    of_the_verification,
)
from tests.mutants.mutant import Mutant

MUTANTS: Final[tuple[Mutant, ...]] = (
    *of_the_decisions.MUTANTS,
    *of_the_messages.MUTANTS,
    *of_the_schema.MUTANTS,
    *of_the_record.MUTANTS,
    *of_one_statement.MUTANTS,
    *of_the_consumer.MUTANTS,
    *of_the_projections.MUTANTS,
    *of_the_producers.MUTANTS,
    *of_the_subscriber.MUTANTS,
    *of_the_operators.MUTANTS,
    *of_the_verification.MUTANTS,
    *of_the_archive.MUTANTS,
    *of_the_doors.MUTANTS,
    *of_the_move.MUTANTS,
)
