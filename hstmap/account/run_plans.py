"""What the plans of a run expected it to use, all starts taken together: a column of its bill."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hstmap.aws.usage import Usage
from hstmap.run_record import read_plans
from hstmap.storage import Store

__all__ = ["planned_usage"]


def planned_usage(store: Store) -> Usage | None:
    """Add up what the plans of a run expected of what came to be done.

    Parameters
    ----------
    store : Store
        The run's.

    Returns
    -------
    Usage or None
        Of a start that was stopped before its end counts the share of its images that the next
        start found done; of a pilot, what is expected of it by what it measured. None if no plan
        says what it expects.
    """
    plans = [plan for plan in read_plans(store) if plan.get("usage") and plan.get("n_todo")]
    if not plans:
        return None
    total = Usage()
    for plan, following in zip(plans, [*plans[1:], None], strict=True):
        usage = (following or {}).get("pilot_usage") or plan["usage"]
        total += _scaled(Usage.from_dict(usage), _share_done(plan, following))
    return total


def _share_done(plan: Mapping[str, Any], following: Mapping[str, Any] | None) -> float:
    if following is None:
        return 1.0
    n_done = int(following["n_done"]) - int(plan["n_done"])
    return min(1.0, max(0.0, n_done / int(plan["n_todo"])))


def _scaled(usage: Usage, share: float) -> Usage:
    """Take a share of everything."""
    if share >= 1.0:
        return usage
    calls = [replace(call, n=round(call.n * share)) for call in usage.calls]
    return Usage(
        calls=tuple(call for call in calls if call.n),
        n_get=round(usage.n_get * share),
        n_put=round(usage.n_put * share),
        n_list=round(usage.n_list * share),
        log_nbytes=round(usage.log_nbytes * share),
        stored_nbytes=round(usage.stored_nbytes * share),
        egress_regions_nbytes=round(usage.egress_regions_nbytes * share),
        egress_internet_nbytes=round(usage.egress_internet_nbytes * share),
    )
