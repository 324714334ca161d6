"""`python -m service.cli`: the same as `ledger`, for processes that are started by this Python."""

from service.cli.app import main

main()
