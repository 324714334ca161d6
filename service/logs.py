"""How processes log: structlog, readable on a terminal, one JSON object a line otherwise.

What the libraries log through `logging` takes the same way out, so that a log file has one form.
"""

import logging
import sys
from typing import Final

import structlog

_QUIET_LOGGERS: Final = {
    # aiokafka says each reconnection attempt and each rebalance step; the ledger's own lines say what it means.
    "aiokafka": logging.ERROR,
    "uvicorn.access": logging.WARNING,
    "faststream": logging.WARNING,
}


def configure_logs(process: str, level: str) -> None:
    """Set up logging of this process, to standard error. Called once, at its start."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    ends: list[structlog.typing.Processor]
    if sys.stderr.isatty():
        # Its usual tracebacks show the value of every variable, passwords and URLs among them.
        ends = [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    else:
        ends = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ends],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name, quiet in _QUIET_LOGGERS.items():
        logging.getLogger(name).setLevel(max(quiet, root.level))
    structlog.contextvars.bind_contextvars(process=process)


def hush_logs() -> None:
    """For commands that people wait for: what goes wrong reaches them as an error, not as lines of a log between."""
    logging.getLogger().addHandler(logging.NullHandler())
    structlog.configure(logger_factory=structlog.stdlib.LoggerFactory(), wrapper_class=structlog.stdlib.BoundLogger)
