"""Logs of an actor's process: JSON lines into a rotating file of its data directory.

Query texts, parameters and credentials never go into a log.
"""

from __future__ import annotations

import logging
from logging.handlers import RotatingFileHandler
from pathlib import Path

import structlog

__all__ = ["configure_logs"]

# Two old files and the current one: enough to look back some days, bounded.
LOG_BYTES_MAX = 10 * 2**20
LOG_FILES_KEPT = 2


def configure_logs(path: Path, server_id: int) -> None:
    """Send everything that structlog and logging say to ``path``."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handler = RotatingFileHandler(path, maxBytes=LOG_BYTES_MAX, backupCount=LOG_FILES_KEPT)
    logging.basicConfig(level=logging.INFO, handlers=[handler], format="%(message)s", force=True)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(server_id=server_id)
