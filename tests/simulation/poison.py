"""Rules under which some commands end the process that decides them, or raise, until a healed version runs."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from ledger.domain.rules import AppRules, OperationRule
from ledger.operations import BaseLedgerOperations, Registry
from tests.simulation.processes import CURRENT

if TYPE_CHECKING:
    from tests.simulation.world import World


class KilledError(BaseException):
    """The process is dead: nothing that runs on has an effect."""


class PoisonedRules(Mapping[str, AppRules]):
    """The registry of the apps; `KILL` and `RAISE` are no operations, but this version does not survive to say so."""

    def __init__(self, apps: Sequence[type[BaseLedgerOperations]], world: "World") -> None:
        registry = Registry(apps)
        self._rules = {
            app: AppRules(app, _Operations(rules.operations, world), rules.allowed, rules.credit_types)
            for app, rules in registry.items()
        }

    def __getitem__(self, app: str) -> AppRules:
        return self._rules[app]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rules)

    def __len__(self) -> int:
        return len(self._rules)


class _Operations(dict[str, OperationRule]):
    def __init__(self, rules: Mapping[str, OperationRule], world: "World") -> None:
        super().__init__(rules)
        self._world = world

    def get(self, name: str, default: object = None) -> OperationRule | None:  # type: ignore[override]
        if not self._world.healed:
            if name == "RAISE":
                raise RuntimeError("simulated: this version cannot decide it")
            process = CURRENT.get()
            if name == "KILL" and process is not None:
                self._world.crash(process)
                raise KilledError
        return super().get(name)
