"""What `plan` and `map` share: what a run is expected to take, what is chosen for it, its pilot."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from hstmap.commands.choice_options import AUTO

if TYPE_CHECKING:
    import argparse

    from hstmap.account.choose import Choice, Goal
    from hstmap.account.estimate import Estimate
    from hstmap.account.requests_made import RequestLog
    from hstmap.account.run_assumptions import RunShape
    from hstmap.account.run_profile import Profile
    from hstmap.archive.manifest import Manifest
    from hstmap.aws.price_table import PriceTable
    from hstmap.commands.spending import Spending
    from hstmap.config import Settings
    from hstmap.pipeline import RunOptions, RunPlan
    from hstmap.storage import RequestCounts

__all__ = [
    "Foreseen",
    "Intent",
    "Wish",
    "foresee",
    "foresee_map",
    "measured_by_pilot",
    "pilot_of",
    "prepare",
    "read_profile",
]


@dataclass(frozen=True)
class Intent:
    """A map that is about to be run.

    Attributes
    ----------
    plan : RunPlan
    manifest : Manifest
    settings : Settings
    options : RunOptions
    spending : Spending or None
        Its money; None if there is nothing to do.
    pilot : Intent or None
        What was done of it before, to see what images take.
    is_pilot : bool
        Whether it is that.
    n_warm : int
        Environments that are there already.
    expected : dict
        What it is expected to take, kept with the plan.
    asked : RequestCounts or None
        What was asked for before it was planned, and is paid for with it.
    """

    plan: RunPlan
    manifest: Manifest
    settings: Settings
    options: RunOptions
    spending: Spending | None = None
    pilot: Intent | None = None
    is_pilot: bool = False
    n_warm: int = 0
    expected: dict[str, Any] = field(default_factory=dict)
    asked: RequestCounts | None = None


@dataclass(frozen=True)
class Foreseen:
    """What a run is expected to take.

    Attributes
    ----------
    estimate : Estimate
    choice : Choice or None
        How memory or batch size were chosen, if they were.
    """

    estimate: Estimate
    choice: Choice | None = None

    def as_dict(self) -> dict[str, Any]:
        """Describe it for the run's plan."""
        record = self.estimate.as_dict()
        usage = record.pop("usage")
        choice = None if self.choice is None else self.choice.as_dict()
        return {"usage": usage, "estimate": record, "choice": choice}


@dataclass(frozen=True)
class Wish:
    """What is asked of a run's making.

    Attributes
    ----------
    memory, batch_size : int, ``"auto"`` or None
        As they were asked for.
    goal : Goal
        What is chosen for.
    timeout_s : float
        The longest that a call may take, s.
    """

    memory: int | str | None
    batch_size: int | str | None
    goal: Goal
    timeout_s: float = 900.0


def foresee(
    shape: RunShape,
    profile: Profile,
    prices: PriceTable,
    architecture: str,
    wish: Wish,
) -> Foreseen:
    """Work out what a run takes, and choose what is to be chosen.

    Parameters
    ----------
    shape : RunShape
    profile : Profile
    prices : PriceTable
    architecture : str
    wish : Wish

    Returns
    -------
    Foreseen
    """
    from hstmap.account.choose import BATCH_SIZES, MEMORY_SIZES_MB, Sweep, choose
    from hstmap.account.estimate import estimate_run

    if AUTO not in (wish.memory, wish.batch_size):
        return Foreseen(estimate_run(shape, profile, prices, architecture))
    sweep = Sweep(
        MEMORY_SIZES_MB if wish.memory == AUTO else (shape.memory_mb,),
        BATCH_SIZES if wish.batch_size == AUTO else (shape.images_a_call,),
        wish.goal,
        wish.timeout_s,
    )
    choice = choose(shape, profile, prices, architecture, sweep)
    return Foreseen(choice.estimate, choice)


def foresee_map(intent: Intent, profile: Profile, wish: Wish) -> Foreseen:
    """Foresee a map where its settings say that it runs; on this machine, as if on Lambda.

    Parameters
    ----------
    intent : Intent
        With something to do.
    profile : Profile
    wish : Wish

    Returns
    -------
    Foreseen
    """
    import os

    from hstmap.account.run_assumptions import RunShape
    from hstmap.aws.price_table import DEFAULT_PRICES, load_prices
    from hstmap.commands.spending import function_shape

    settings = intent.settings
    function = function_shape(settings)
    most = settings.lithops.get(settings.backend, {}).get("max_workers", RunShape.n_workers)
    looks_s = settings.lithops.get("lithops", {}).get("monitoring_interval")
    shape = RunShape(
        n_images=intent.plan.n_todo,
        n_workers=settings.n_workers or (os.cpu_count() or 1 if settings.is_local else int(most)),
        batch_size=max(len(batch.images) for batch in intent.plan.batches),
        memory_mb=function.memory_mb,
        catalogs=intent.options.catalogs,
        rows_a_file=intent.options.rows_a_file,
        is_pilot=intent.is_pilot,
        n_warm=intent.n_warm,
        n_parts_there=_n_parts_there(intent),
        poll_s=None if looks_s is None else float(looks_s),
    )
    prices = load_prices(settings.prices or DEFAULT_PRICES)
    return foresee(shape, profile, prices, function.architecture, wish)


def _n_parts_there(intent: Intent) -> int:
    """Count the parts of earlier maps of the run; those of other than its pilot had its batches."""
    if intent.pilot is not None:
        return len(intent.pilot.plan.batches) + _n_parts_there(intent.pilot)
    return math.ceil(intent.plan.n_done / max(len(batch.images) for batch in intent.plan.batches))


def prepare(
    intent: Intent,
    profile: Profile,
    arguments: argparse.Namespace,
    requests: RequestLog | None = None,
) -> tuple[Intent, Foreseen]:
    """Foresee a map, choose what is to be chosen, and open its account.

    Parameters
    ----------
    intent : Intent
        With something to do.
    profile : Profile
    arguments : argparse.Namespace
    requests : RequestLog, optional
        Knows what has been asked for by then; what is not known is as for a new run.

    Returns
    -------
    Intent, Foreseen
        The intent with what was chosen.

    Raises
    ------
    UsageError
        If nothing that may be chosen is within the limits.
    """
    from hstmap.account.choose import Goal
    from hstmap.commands.spending import open_spending
    from hstmap.pipeline import plan_run

    intent = replace(intent, n_warm=_n_warm(intent, arguments))
    settings = intent.settings
    memory = None if settings.is_local else arguments.memory
    goal = Goal(fastest=True)
    if not settings.is_local:
        goal = Goal(_left_usd(intent, profile, arguments), arguments.deadline)
    wish = Wish(memory, arguments.batch_size, goal, settings.timeout_s or Wish.timeout_s)
    foreseen = foresee_map(intent, profile, wish)
    if foreseen.choice is not None:
        chosen = foreseen.choice.chosen
        memory_mb = chosen.memory_mb if memory == AUTO else None
        settings = settings.with_options(memory_mb=memory_mb, batch_size=chosen.batch_size)
        options = replace(intent.options, batch_size=chosen.batch_size)
        plan = plan_run(intent.manifest, intent.plan.out, intent.plan.parameters, options)
        intent = replace(intent, plan=plan, settings=settings, options=options)
    spending = open_spending(intent.plan, settings, intent.options, foreseen.estimate)
    told = {name: getattr(profile, name) for name in ("origin", "machine", "date")}
    intent = replace(intent, spending=spending, asked=None if requests is None else requests.so_far)
    expected = foreseen.as_dict() | {"usage": _usage(intent, foreseen), "profile": told}
    if intent.pilot is not None:
        again = foresee_map(intent.pilot, profile, Wish(None, None, goal))
        expected["pilot_usage"] = _usage(intent.pilot, again)
    return replace(intent, expected=expected), foreseen


def _usage(intent: Intent, foreseen: Foreseen) -> dict[str, Any]:
    """Describe for the run's plan what it is expected to use, and has already."""
    from hstmap.account.run_usage import with_asked

    usage, shape = foreseen.estimate.usage, foreseen.estimate.shape
    if intent.asked is not None:
        usage = with_asked(usage, shape, intent.asked)
    return usage.as_dict()


def _n_warm(intent: Intent, arguments: argparse.Namespace) -> int:
    """Count the environments that this run, or the one that it is planned by, has left warm."""
    import time

    from hstmap.account.run_calls import PLACE_FACT, LambdaPlace
    from hstmap.account.run_measured import warm_environments
    from hstmap.commands.engines import where_it_runs
    from hstmap.storage import open_store

    fact = where_it_runs(intent.settings).get(PLACE_FACT)
    if fact is None:
        return 0  # workers of this machine end with their map
    stores = [open_store(intent.plan.out, intent.options.out_options)]
    if arguments.profile is not None and not arguments.profile.endswith(".json"):
        stores.append(open_store(arguments.profile))
    return max(warm_environments(store, LambdaPlace(**fact), time.time()) for store in stores)


def _left_usd(intent: Intent, profile: Profile, arguments: argparse.Namespace) -> float | None:
    """Say what of the budget is left to choose by."""
    from hstmap.account.choose import Goal
    from hstmap.commands.spending import open_spending

    budget_usd = intent.settings.budget_usd
    if budget_usd is None or AUTO not in (arguments.memory, arguments.batch_size):
        return budget_usd
    estimate = foresee_map(intent, profile, Wish(None, None, Goal())).estimate
    spending = open_spending(intent.plan, intent.settings, intent.options, estimate)
    return max(0.0, budget_usd - spending.account.spent_usd)


def read_profile(name: str | None) -> Profile:
    """Read a profile, or make one of an earlier run.

    Parameters
    ----------
    name : str, optional
        A file, or the place of a run; by default the profile that comes with hstmap.

    Returns
    -------
    Profile
        Its origin says which of them it is.
    """
    from hstmap.account.run_measured import profile_of_run
    from hstmap.account.run_profile import load_profile
    from hstmap.run_record import read_run_record
    from hstmap.storage import open_store

    if name is None:
        return described(load_profile(), "built in")
    if not name.endswith(".json"):
        store = open_store(name)
        if read_run_record(store) is not None:
            return described(profile_of_run(store), "earlier run")
    return described(load_profile(name), "file")


def described(profile: Profile, kind: str) -> Profile:
    """Say in a profile's origin what kind it is of, and where and when it was measured.

    Parameters
    ----------
    profile : Profile
    kind : str
        ``built in``, ``earlier run``, ``pilot`` or ``file``.

    Returns
    -------
    Profile
    """
    origin = profile.origin
    if kind == "pilot":
        origin = f"from {len(profile.images):,} images of this run"
    where = ", ".join(filter(None, ["measured on " + profile.machine, profile.date[:10]]))
    return replace(profile, origin=f"{kind}: {origin}; {where}")


def measured_by_pilot(intent: Intent) -> Profile:
    """Make the profile of a run whose pilot has been done.

    Parameters
    ----------
    intent : Intent

    Returns
    -------
    Profile

    Raises
    ------
    UsageError
        If none of its images could be measured.
    """
    from hstmap.account.run_measured import profile_of_run
    from hstmap.storage import open_store

    store = open_store(intent.plan.out, intent.options.out_options)
    return described(profile_of_run(store), "pilot")


def pilot_of(intent: Intent, n: int) -> Intent:
    """Plan a sample of a map's images, as a part of it, in batches as they are planned.

    Parameters
    ----------
    intent : Intent
    n : int
        Images of the sample.

    Returns
    -------
    Intent
    """
    from hstmap.account.run_pilot import pilot_plan

    largest = max(len(batch.images) for batch in intent.plan.batches)
    plan = pilot_plan(intent.plan, intent.manifest, n, largest)
    return replace(intent, plan=plan, is_pilot=True)
