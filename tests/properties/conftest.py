"""How hypothesis runs here."""

from hypothesis import settings

# No deadline: on a machine that is busy with servers a single example can take long without meaning anything.
settings.register_profile("ledger", deadline=None, print_blob=True)
settings.load_profile("ledger")
