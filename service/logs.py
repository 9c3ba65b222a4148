"""The format of log lines, and the request id in each."""

import json
import logging
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TextIO

NO_REQUEST = "-"
CONSOLE = "%(asctime)s %(levelname)s %(name)s [%(request_id)s]: %(message)s"
FIELDS = ("request_id", "method", "route", "status", "ms", "problem")

# Threads that asyncio did not start do not see this variable; their log lines name requests themselves.
request_id: ContextVar[str] = ContextVar("request_id", default=NO_REQUEST)


def handler(is_json: bool, stream: TextIO | None = None) -> logging.Handler:
    """A handler that writes to `stream` or stderr: lines for people, or one JSON object per line."""
    made = logging.StreamHandler(stream)
    made.addFilter(_identify)
    made.setFormatter(JsonFormatter() if is_json else logging.Formatter(CONSOLE))
    return made


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time (UTC), level, logger, message, and the record's FIELDS.

    An error's traceback is a field.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Formats the record as JSON in ASCII."""
        told = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        known = {name: getattr(record, name, None) for name in FIELDS}
        told |= {name: value for name, value in known.items() if value not in (None, NO_REQUEST)}
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return json.dumps(told, default=str)


def _identify(record: logging.LogRecord) -> bool:
    if not hasattr(record, "request_id"):
        record.request_id = request_id.get()
    return True
