"""A loopback AWS: the real wire calls, the real packaging and AWS's own runtime client.

A test double for deployments and runs, not a product: `docs/local-aws.md` says what it does as
AWS does it and what it cannot show. It needs ``pip install 'hstmap[local-aws]'`` and Linux.
"""

from __future__ import annotations

from hstmap.aws.local.faults import FAULT_KINDS, Fault, FaultScript, FiredFault
from hstmap.aws.local.local_aws import LocalAws, serve
from hstmap.aws.local.options import LocalAwsOptions
from hstmap.aws.local.reports import Report, parse_report
from hstmap.aws.local.runs import InvocationRecord
from hstmap.aws.local.wire import RequestRecord

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
