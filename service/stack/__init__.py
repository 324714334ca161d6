"""Real Kafka and real Postgres, for running and for testing: external, in containers, or local processes."""

from service.stack.down import remove_state, stop_running
from service.stack.interface import Addresses, Login, Purpose, Report, ServerStatus, Stack, StackError, StackName
from service.stack.resolver import Resolution, StackChoice, default_cache, resolve, stack_of
from service.stack.state import RunningStack, lock_holder, running_stack

__all__ = [
    "Addresses",
    "Login",
    "Purpose",
    "Report",
    "Resolution",
    "RunningStack",
    "ServerStatus",
    "Stack",
    "StackChoice",
    "StackError",
    "StackName",
    "default_cache",
    "lock_holder",
    "remove_state",
    "resolve",
    "running_stack",
    "stack_of",
    "stop_running",
]
