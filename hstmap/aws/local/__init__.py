"""A loopback AWS: the real wire calls, the real packaging and AWS's own runtime client.

A test double for deployments and runs, not a product: ``docs/local-aws.md`` says what it does as
AWS does it, and what it cannot show. It needs ``pip install 'hstmap[local-aws]'`` and Linux.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hstmap.errors import UsageError

if TYPE_CHECKING:
    from hstmap.aws.local.faults import FAULT_KINDS, Fault, FaultScript, FiredFault
    from hstmap.aws.local.local_aws import LocalAws, serve
    from hstmap.aws.local.options import LocalAwsOptions
    from hstmap.aws.local.runs import InvocationRecord
    from hstmap.aws.local.wire import RequestRecord
    from hstmap.aws.reports import Report, parse_report

__all__ = [
    "FAULT_KINDS",
    "Fault",
    "FaultScript",
    "FiredFault",
    "InvocationRecord",
    "LocalAws",
    "LocalAwsOptions",
    "Report",
    "RequestRecord",
    "parse_report",
    "serve",
]

_HOMES = {
    "FAULT_KINDS": "faults",
    "Fault": "faults",
    "FaultScript": "faults",
    "FiredFault": "faults",
    "InvocationRecord": "runs",
    "LocalAws": "local_aws",
    "LocalAwsOptions": "options",
    "Report": ".reports",  # one package up: whoever reads bills needs it, too
    "RequestRecord": "wire",
    "parse_report": ".reports",
    "serve": "local_aws",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f".{_HOMES[name]}", __name__)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"the loopback AWS needs {error.name}, which is not installed: "
            "pip install 'hstmap[local-aws]'"
        ) from error
    return getattr(module, name)
