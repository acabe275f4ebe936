"""The service log: JSON lines on stderr. Decisions about keys stand in the audit log, not here.

Only names and codes are logged: no header, cookie, token, query, body, quote or exception text.
"""

import logging
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any, Final, TextIO, cast

import structlog
from structlog.typing import Processor


class _Stderr:
    """Standard error as it is when a line is written. A service log that can't be written must not fail a request."""

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.flush()


_STAMPS: Final[list[Processor]] = [
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]
_RENDERER: Final = structlog.processors.JSONRenderer()

log: Final[Any] = structlog.wrap_logger(
    structlog.PrintLogger(cast("TextIO", _Stderr())), processors=[*_STAMPS, _RENDERER]
)


def send_server_messages_to_the_log() -> None:
    """Let what uvicorn says appear as JSON lines too, from warnings upward."""
    handler = logging.StreamHandler(_Stderr())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_STAMPS,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _drop_exception, _RENDERER],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    # Another server in this process may have silenced it.
    logging.getLogger("uvicorn").setLevel(logging.NOTSET)


def _drop_exception(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    # A traceback ends with the text of the exception, which may quote what a stranger sent.
    event.pop("exc_info", None)
    event.pop("exception", None)
    return event
