"""The parts of the Lambda service, put together once and handed to its routes."""

from __future__ import annotations

from dataclasses import dataclass

from hstmap.aws.local.admission import Concurrency
from hstmap.aws.local.asynchronous import EventQueue
from hstmap.aws.local.code_source import CodeSource
from hstmap.aws.local.faults import FaultScript
from hstmap.aws.local.functions import FunctionRegistry
from hstmap.aws.local.invoker import Invoker

__all__ = ["Backend"]


@dataclass(frozen=True)
class Backend:
    """What the routes work with."""

    registry: FunctionRegistry
    source: CodeSource
    invoker: Invoker
    concurrency: Concurrency
    events: EventQueue
    faults: FaultScript
