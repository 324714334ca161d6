"""All apps that the ledger knows, found at start by entry point and by setting."""

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from ledger.domain.rules import AppRules
from ledger.operations.app_operations import BaseLedgerOperations, OperationsError

ENTRY_POINT_GROUP: Final = "ledger.apps"


class Registry(Mapping[str, AppRules]):
    """The rules by app name. An app that is not in it is not consumed."""

    def __init__(self, classes: Sequence[type[BaseLedgerOperations]]) -> None:
        """Check and collect the classes.

        Raises:
            OperationsError: a class is invalid, or two classes have one app name.
        """
        self._rules: dict[str, AppRules] = {}
        self._classes: dict[str, type[BaseLedgerOperations]] = {}
        for cls in classes:
            rules = cls.rules()
            other = self._classes.get(rules.app)
            if other is not None and other is not cls:
                raise OperationsError(
                    f"the app {rules.app!r} is declared twice: by {_name(other)} and by {_name(cls)}; rename one"
                )
            self._rules[rules.app] = rules
            self._classes[rules.app] = cls

    def __getitem__(self, app: str) -> AppRules:
        return self._rules[app]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rules)

    def __len__(self) -> int:
        return len(self._rules)


def load_registry(extra: Sequence[str] = ()) -> Registry:
    """Find the apps: the entry points `ledger.apps`, and `extra`, each `module:Class`.

    Raises:
        OperationsError: one cannot be imported or is no valid class of operations; the text says which and why.
    """
    found = [(point.name, point) for point in entry_points(group=ENTRY_POINT_GROUP)]
    classes = [_load(name, point) for name, point in sorted(found)]
    for cls, name in ((_import(text), text) for text in extra):
        _check_class(cls, name)
        classes.append(cls)
    return Registry(classes)


def _load(name: str, point: EntryPoint) -> type[BaseLedgerOperations]:
    cls = _import(point.value)
    _check_class(cls, point.value)
    if cls.app != name:
        raise OperationsError(
            f"the entry point {name!r} names {point.value}, whose app is {cls.app!r}; make them equal"
        )
    return cls


def _import(text: str) -> type[BaseLedgerOperations]:
    module, colon, attribute = text.partition(":")
    if not colon:
        raise OperationsError(f"{text!r} names no class of operations; write module:Class")
    try:
        return getattr(import_module(module), attribute)  # type: ignore[no-any-return]  # checked by _check_class
    except (ImportError, AttributeError) as error:
        raise OperationsError(f"the operations {text!r} cannot be imported: {error}") from error


def _check_class(cls: object, text: str) -> None:
    if not (isinstance(cls, type) and issubclass(cls, BaseLedgerOperations)):
        raise OperationsError(f"{text!r} is no class derived from BaseLedgerOperations")


def _name(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"
