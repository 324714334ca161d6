"""The apps are found at start, by entry point and by setting; one that cannot be used is named."""

import sys
from importlib.metadata import EntryPoint
from types import ModuleType

import pytest

from ledger.operations import BaseLedgerOperations, OperationsError, Registry, load_registry, registry

MODULE = "operations_of_a_test"


class ShopOperations(BaseLedgerOperations):
    """A valid app."""

    app = "shop"


class OtherShopOperations(BaseLedgerOperations):
    """Another app of the same name."""

    app = "shop"


class BankOperations(BaseLedgerOperations):
    """A valid app of another name."""

    app = "bank"


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Entry points by name; a test fills it. The classes above can be imported from MODULE."""
    points: dict[str, str] = {}
    module = ModuleType(MODULE)
    for thing in (ShopOperations, OtherShopOperations, BankOperations):
        setattr(module, thing.__name__, thing)
    module.number = 5  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, MODULE, module)

    def entry_points(*, group: str) -> list[EntryPoint]:
        assert group == "ledger.apps"
        return [EntryPoint(name, value, group) for name, value in points.items()]

    monkeypatch.setattr(registry, "entry_points", entry_points)
    return points


def test_apps_are_found_by_entry_point_and_by_setting(installed: dict[str, str]) -> None:
    installed["shop"] = f"{MODULE}:ShopOperations"
    found = load_registry([f"{MODULE}:BankOperations"])
    assert sorted(found) == ["bank", "shop"]
    assert found["shop"] == ShopOperations.rules()
    assert len(found) == 2
    assert "nobody" not in found


def test_the_installed_example_app_is_found() -> None:
    assert "example-app" in load_registry(["apps.example_app.operations:ExampleAppOperations"])


def test_an_app_that_is_named_twice_by_the_same_class_is_one_app(installed: dict[str, str]) -> None:
    installed["shop"] = f"{MODULE}:ShopOperations"
    assert list(load_registry([f"{MODULE}:ShopOperations"])) == ["shop"]


def test_two_classes_of_one_app_are_both_named(installed: dict[str, str]) -> None:
    installed["shop"] = f"{MODULE}:ShopOperations"
    with pytest.raises(OperationsError, match=r"'shop' is declared twice: by .*:ShopOperations and by .*:OtherShop"):
        load_registry([f"{MODULE}:OtherShopOperations"])


def test_an_entry_point_must_have_the_name_of_its_app(installed: dict[str, str]) -> None:
    installed["store"] = f"{MODULE}:ShopOperations"
    with pytest.raises(OperationsError, match=r"the entry point 'store' names .*whose app is 'shop'"):
        load_registry()


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("no_such_module:ShopOperations", "'no_such_module:ShopOperations' cannot be imported"),
        (f"{MODULE}:Missing", f"'{MODULE}:Missing' cannot be imported"),
        (f"{MODULE}:number", "no class derived from BaseLedgerOperations"),
        (f"{MODULE}.ShopOperations", "write module:Class"),
        ("", "write module:Class"),
    ],
)
def test_what_cannot_be_used_is_named(installed: dict[str, str], text: str, error: str) -> None:
    with pytest.raises(OperationsError, match=error):
        load_registry([text])


def test_an_invalid_class_stops_the_start(installed: dict[str, str]) -> None:
    class NamelessOperations(BaseLedgerOperations):
        """An app without a name."""

    with pytest.raises(OperationsError, match=r"NamelessOperations\.app is ''"):
        Registry([ShopOperations, NamelessOperations])


def test_one_invalid_app_among_valid_ones_is_refused_by_name() -> None:
    class DroppingOperations(BaseLedgerOperations):
        """An app that drops all base operations."""

        app = "dropping"
        operations = {}

    with pytest.raises(OperationsError, match="DroppingOperations drops the base operation DAILY_REWARD"):
        Registry([BankOperations, DroppingOperations])
