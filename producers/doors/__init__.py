"""Who may come in over HTTP: API keys, their scopes, and limits on what one caller can take.

An app's service adds `Doorkeeper` and `RequestLimits` as middleware; its routes ask `caller_of` who is calling.
"""

from producers.doors.caller import Caller, caller_of, charge, is_stranger
from producers.doors.documentation import document_doors
from producers.doors.doorkeeper import Doorkeeper, DoorPolicy
from producers.doors.key_ring import KeyRing
from producers.doors.keys_in_postgres import PostgresDoorKeys
from producers.doors.loopback import is_loopback
from producers.doors.request_limits import RequestLimits

__all__ = [
    "Caller",
    "DoorPolicy",
    "Doorkeeper",
    "KeyRing",
    "PostgresDoorKeys",
    "RequestLimits",
    "caller_of",
    "charge",
    "document_doors",
    "is_loopback",
    "is_stranger",
]
