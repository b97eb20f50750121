"""What a run cost: its ledger, its plan and what lies in its place become a bill.

Runs on Lambda have REPORT lines. Where there are none, the bill is *simulated* from the ledger: as
if each attempt had been a call that took as long as it took there.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from hstmap.account.ledger_reports import LedgerReports, Reports, worker_calls
from hstmap.account.requests_made import requests_of_run
from hstmap.account.run_assumptions import VCPU_MB
from hstmap.account.run_calls import RunCalls
from hstmap.account.run_plans import planned_usage
from hstmap.account.run_profile import Profile
from hstmap.aws.bill import Bill, Reconciled, reconcile
from hstmap.aws.price_table import PriceTable
from hstmap.aws.usage import LOG_NBYTES_A_CALL, Call, Usage
from hstmap.bag.ledger import LEDGER_PREFIX
from hstmap.errors import UsageError
from hstmap.run_record import MANIFEST_KEY
from hstmap.storage import RequestCounts, Store
from hstmap.summary_files import COVERAGE_FILE, IMAGES_FILE, SOURCES_FILE, SOURCES_PREFIX

__all__ = [
    "BILL_KEY",
    "LambdaShape",
    "RunBill",
    "bill_from_record",
    "bill_run",
    "is_run_bill",
]

BILL_KEY: Final = "bill.json"
_RESULTS: Final = (
    "parts/", "catalogs/", LEDGER_PREFIX, MANIFEST_KEY, SOURCES_FILE, SOURCES_PREFIX, IMAGES_FILE,
    COVERAGE_FILE,
)  # fmt: skip
_FORMAT: Final = 2


@dataclass(frozen=True)
class LambdaShape:
    """The function that calls are, or are taken to be, made of.

    Attributes
    ----------
    memory_mb : int
    architecture : str
        ``x86_64`` or ``arm64``.
    """

    memory_mb: int = VCPU_MB
    architecture: str = "arm64"


@dataclass(frozen=True)
class RunBill:
    """The bill of a run, with what it was made from.

    Attributes
    ----------
    run : str
        URL of the run.
    simulated : bool
        Whether no REPORT lines were read.
    shape : LambdaShape
    usages : dict of str to Usage
        ``planned``, ``worker`` and ``report``, what was used by who says so.
    missing : dict of str to int
        Calls of which no REPORT line is there, by how their attempts ended.
    requests : dict of str to int
        Of S3, by who made them: see `hstmap.account.requests_made.Origin`.
    notes : tuple of str
        What is taken for granted.
    """

    run: str
    simulated: bool
    shape: LambdaShape
    usages: dict[Any, Usage]
    missing: dict[str, int]
    requests: dict[str, int]
    notes: tuple[str, ...]

    def under(self, prices: PriceTable) -> Reconciled:
        """Make the bills under a table of prices.

        Parameters
        ----------
        prices : PriceTable

        Returns
        -------
        Reconciled
        """
        return reconcile(self.usages, prices, self.shape.architecture)

    def as_json(self, prices: PriceTable) -> bytes:
        """Write it, with the bills under a table of prices.

        Parameters
        ----------
        prices : PriceTable

        Returns
        -------
        bytes
            JSON; `bill_from_record` reads all but the bills, which follow from the rest.
        """
        result = self.under(prices)
        bills = {"planned": result.planned, "worker": result.worker, "report": result.report}
        record = {
            "format": _FORMAT,
            "run": self.run,
            "simulated": self.simulated,
            "shape": asdict(self.shape),
            "notes": list(self.notes),
            "prices": asdict(prices) | {"lambda_gb_s_usd": dict(prices.lambda_gb_s_usd)},
            "bills": {name: _summed(bill) for name, bill in bills.items() if bill is not None},
            "missing": self.missing,
            "requests": self.requests,
            "unexplained_ms": result.unexplained_ms,
            "usages": {name: usage.as_dict() for name, usage in self.usages.items()},
        }
        return (json.dumps(record, indent=1) + "\n").encode()


def _summed(bill: Bill) -> dict[str, Any]:
    return asdict(bill) | {"list_usd": bill.list_usd, "net_usd": bill.net_usd}


def is_run_bill(out: str) -> bool:
    """Tell a saved bill from a run's place, by its name.

    Parameters
    ----------
    out : str

    Returns
    -------
    bool
    """
    return out.endswith(".json")


def bill_from_record(content: bytes) -> RunBill:
    """Read a saved bill.

    Parameters
    ----------
    content : bytes
        From `RunBill.as_json`.

    Returns
    -------
    RunBill

    Raises
    ------
    UsageError
        If it is something else.
    """
    try:
        record = json.loads(content)
        if record["format"] != _FORMAT:
            raise UsageError(
                f"this bill has format {record['format']!r}, expected {_FORMAT}: make it again "
                "from its run with this version of hstmap"
            )
        return RunBill(
            run=record["run"],
            simulated=record["simulated"],
            shape=LambdaShape(**record["shape"]),
            usages={name: Usage.from_dict(usage) for name, usage in record["usages"].items()},
            missing=dict(record["missing"]),
            requests=dict(record["requests"]),
            notes=tuple(record["notes"]),
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(f"this is no bill of hstmap: {type(error).__name__} {error}") from error


def bill_run(
    store: Store,
    calls: RunCalls,
    shape: LambdaShape,
    profile: Profile,
    reports: Reports | None = None,
) -> RunBill:
    """Make the bill of a run.

    Parameters
    ----------
    store : Store
        The run's.
    calls : RunCalls
        From its ledger.
    shape : LambdaShape
    profile : Profile
        How long a start takes.
    reports : Reports, optional
        Where the calls come from; by default the ledger.

    Returns
    -------
    RunBill
    """
    init_s = statistics.median(profile.init_s)
    source = reports or LedgerReports(calls.attempts, shape.memory_mb, init_s)
    made = requests_of_run(store)
    of_workers = made.by_origin["workers"] + made.by_origin["workers_engine"]
    stored = sum(info.nbytes for info in store.list() if info.key.startswith(_RESULTS))
    told = worker_calls(calls, shape.memory_mb, init_s)
    usages = {
        "worker": _with_calls(of_workers, told, (LOG_NBYTES_A_CALL * len(told), stored)),
        "report": _with_calls(made.total, source.calls(), (source.log_nbytes, stored)),
    }
    planned = planned_usage(store)
    return RunBill(
        run=store.url,
        simulated=source.simulated,
        shape=shape,
        usages=usages if planned is None else {"planned": planned, **usages},
        missing=dict(source.missing),
        requests={name: counts.n_requests for name, counts in made.by_origin.items()},
        notes=(*source.notes, *made.notes),
    )


def _with_calls(counts: RequestCounts, calls: Sequence[Call], nbytes: tuple[int, int]) -> Usage:
    """Put together requests, calls, and the bytes of logs and results."""
    log_nbytes, stored_nbytes = nbytes
    return Usage(
        calls=tuple(calls),
        n_get=counts.n_get + counts.n_head,
        n_put=counts.n_put,
        n_list=counts.n_list,
        log_nbytes=log_nbytes,
        stored_nbytes=stored_nbytes,
    )
