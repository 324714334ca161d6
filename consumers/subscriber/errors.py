"""What can go wrong in a subscriber, as a tree."""


class SubscriberError(Exception):
    """Everything that the kit raises."""


class TopicsNotReadyError(SubscriberError):
    """A topic that the subscriber needs is missing or has another number of partitions."""


class SubscriberHaltedError(SubscriberError):
    """A partition was halted: nothing of it is handled until somebody has acted. The text says what to do."""

    def __init__(self, partition: int, why: str) -> None:
        super().__init__(f"partition {partition} is halted: {why}")
        self.partition = partition
        self.why = why


class DivergedError(SubscriberError):
    """An event does not continue the history that this subscriber has seen."""


class GapError(DivergedError):
    """Events are missing between the last one seen and this one."""


class OtherHistoryError(DivergedError):
    """A position that was seen holds another event, or the chain of hashes does not continue."""


class HandlingFailedError(SubscriberError):
    """A handler failed in every attempt; the cause is the last attempt's exception."""

    def __init__(self, handler: str, attempts: int, error: str) -> None:
        super().__init__(f"{handler} failed {attempts} times; the last time with {error}")
        self.attempts = attempts
        self.error = error


class InterruptedDeliveryError(SubscriberError):
    """The partition was taken away, or the subscriber stops: the event was not handled here and comes again."""


class ParkingUnavailableError(SubscriberError):
    """Kafka did not acknowledge a record for the parked topic; it may be there all the same."""


class UnreadableParkingRecordError(SubscriberError):
    """A message on the parked topic is none of the kit's records."""


class NotParkedError(SubscriberError):
    """The owner that is to be released is not parked."""
