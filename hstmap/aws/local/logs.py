"""Log events on their way to CloudWatch Logs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

__all__ = ["LogBatch", "LogWriter"]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LogBatch:
    """The log events of one invocation: pairs of a time in milliseconds and a message."""

    region: str
    group: str
    stream: str
    events: tuple[tuple[int, str], ...]


class LogWriter:
    """Writes batches one after the other, beside the event loop.

    Parameters
    ----------
    make_client : callable
        Makes a client of a region's CloudWatch Logs.
    """

    def __init__(self, make_client: Callable[[str], Any]) -> None:
        self._make_client = make_client
        self._clients: dict[str, Any] = {}
        self._batches: asyncio.Queue[LogBatch] = asyncio.Queue()

    def put(self, batch: LogBatch) -> None:
        """Queue a batch."""
        if batch.events:
            self._batches.put_nowait(batch)

    async def join(self) -> None:
        """Wait until all that was queued is written."""
        await self._batches.join()

    async def run(self) -> None:
        """Write batches until cancelled."""
        while True:
            batch = await self._batches.get()
            try:
                await asyncio.to_thread(self._write, batch)
            except (BotoCoreError, ClientError) as error:
                _logger.warning("log events of %s were lost: %s", batch.group, error)
            finally:
                self._batches.task_done()

    def _write(self, batch: LogBatch) -> None:
        if batch.region not in self._clients:
            self._clients[batch.region] = self._make_client(batch.region)
        client = self._clients[batch.region]
        try:
            self._put(client, batch)
        except client.exceptions.ResourceNotFoundException:
            with contextlib.suppress(client.exceptions.ResourceAlreadyExistsException):
                client.create_log_group(logGroupName=batch.group)
            with contextlib.suppress(client.exceptions.ResourceAlreadyExistsException):
                client.create_log_stream(logGroupName=batch.group, logStreamName=batch.stream)
            self._put(client, batch)

    def _put(self, client: Any, batch: LogBatch) -> None:
        client.put_log_events(
            logGroupName=batch.group,
            logStreamName=batch.stream,
            logEvents=[{"timestamp": time, "message": message} for time, message in batch.events],
        )
