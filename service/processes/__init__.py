"""The processes of the ledger: consumer, projector and HTTP service. Each runs until it is told to stop."""

from service.processes.lifecycle import run_process

__all__ = ["run_process"]
