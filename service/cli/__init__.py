"""The command line `ledger`."""

from service.cli.app import main

__all__ = ["main"]
