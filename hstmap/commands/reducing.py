"""The reduce as `map` and `reduce` run it: on the run's engine, in its ledger and budget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from hstmap.account.budget import Account
    from hstmap.bag.engine import Attempt
    from hstmap.cli import Console
    from hstmap.commands.call_limits import CallLimits
    from hstmap.config import Settings
    from hstmap.reduce_plan import ReducePlan
    from hstmap.summary import Summary

__all__ = ["add_rows_argument", "reduce_parts"]

#: A worker of Lambda keeps the file that it writes on its disk of 512 MB; a source takes 160 bytes.
_MOST_ROWS_ON_LAMBDA: Final = 3_000_000
_MOST_NBYTES_A_SOURCE: Final = 200
#: Reading, merging and writing a source on one vCPU.
_SECONDS_A_SOURCE: Final = 7e-6
#: What a call asks for beside parts and file: see `hstmap.account.charges`.
_ENGINE_PUTS, _ENGINE_GETS = 3, 2
#: The client's: the table of images, the coverage, the ledger.
_CLIENT_PUTS: Final = 8


def add_rows_argument(group: Any) -> None:
    """Declare the option that says how large the files of sources are.

    Parameters
    ----------
    group : argparse.ArgumentParser or group of one
    """
    from hstmap.commands.numbers import positive

    group.add_argument(
        "--rows-a-file", type=positive, metavar="N",
        help="with more sources than that, the summary has them in several files of about so many, "
        "which tasks write (default: one file up to 10 million, then a million each)",
    )  # fmt: skip


def reduce_parts(
    out: str, settings: Settings, rows_a_file: int | None, console: Console
) -> Summary:
    """Merge the parts of a run: small ones here, large ones by tasks.

    Parameters
    ----------
    out : str
        The run's place.
    settings : Settings
        Where tasks run.
    rows_a_file : int or None
        From the option.
    console : Console

    Returns
    -------
    Summary
    """
    from hstmap.account.requests_made import recorded
    from hstmap.bag.engine import InProcessEngine
    from hstmap.reduce_plan import plan_reduce
    from hstmap.storage import open_store
    from hstmap.summary import run_reduce

    with recorded("reduce", open_store(out)):
        plan = plan_reduce(out, rows_a_file=rows_a_file)
        if not plan.todo:
            with InProcessEngine() as engine:
                return run_reduce(plan, engine)
    _check_reach(plan, settings)
    console.say(
        f"reduce    {plan.n_sources:,} sources into {len(plan.files):,} files, "
        f"{len(plan.todo):,} of them to be written"
    )
    return _reduce_by_tasks(plan, settings, console)


def _check_reach(plan: ReducePlan, settings: Settings) -> None:
    """Refuse what workers elsewhere cannot do."""
    from hstmap.commands.run_options import check_workers_reach
    from hstmap.errors import UsageError

    if settings.is_local:
        return
    check_workers_reach([plan.store.url], "OUT")
    largest = max(file.n_sources for file in plan.todo)
    if largest > _MOST_ROWS_ON_LAMBDA:
        raise UsageError(
            f"a file would have {largest:,} sources, and a worker has room for "
            f"{_MOST_ROWS_ON_LAMBDA:,}: give a smaller --rows-a-file, or --engine inprocess"
        )


def _reduce_by_tasks(plan: ReducePlan, settings: Settings, console: Console) -> Summary:
    """Run the tasks of a reduce under a progress bar, as far as the budget goes."""
    from hstmap.account.budget import ACCOUNT_EVENT, account_record
    from hstmap.account.requests_made import RequestLog
    from hstmap.bag.engine import make_engine
    from hstmap.bag.ledger import Ledger
    from hstmap.bag.progress import Progress
    from hstmap.commands.call_limits import limit_calls
    from hstmap.commands.engines import engine_options, where_it_runs
    from hstmap.commands.spending import lambda_place
    from hstmap.errors import StoppedError
    from hstmap.summary import REDUCE_MODULES, run_reduce

    limits = limit_calls(settings, lambda_place(settings), _expected_s(plan, settings))
    settings = limits.settings
    account = _account(plan, limits)
    with (
        RequestLog("reduce") as requests,
        Ledger(plan.store, detail=_ledger_detail, about=where_it_runs(settings)) as ledger,
        requests.written_to(ledger),
        Progress(0, unit="file", stream=console.stderr, quiet=console.quiet) as progress,
        make_engine(
            settings.engine,
            engine_options(
                settings, first_timeout_s=limits.first_timeout_s, preload=REDUCE_MODULES
            ),
            [ledger, requests, progress.on_event],
            account,
        ) as engine,
    ):
        requests.watch(engine)
        ledger.note(ACCOUNT_EVENT, account_record(account))
        try:
            return run_reduce(plan, engine)
        except StoppedError as error:
            needed_usd = account.needed_usd() * 1.1
            raise StoppedError(
                f"a budget of {settings.budget_usd:g} USD does not hold one more call, which could "
                f"cost {account.terms.most_usd:.4f}: {error}, by --budget {needed_usd:.2g} or more"
            ) from error


def _expected_s(plan: ReducePlan, settings: Settings) -> float:
    """Say what the largest call is expected to take, s."""
    from hstmap.account.run_assumptions import VCPU_MB
    from hstmap.commands.spending import function_shape

    largest = max(file.n_sources for file in plan.todo)
    cpu_share = min(1.0, function_shape(settings).memory_mb / VCPU_MB)
    return largest * _SECONDS_A_SOURCE / cpu_share


def _ledger_detail(attempt: Attempt) -> dict[str, Any]:
    """Keep in the ledger what a worker said of a file: rows, requests, time."""
    from dataclasses import asdict

    return asdict(attempt.value)


def _account(plan: ReducePlan, limits: CallLimits) -> Account:
    """Open the account of a reduce, with what the run has spent before."""
    from dataclasses import replace

    from hstmap.account.budget import Account, spent_before
    from hstmap.account.charges import CallTerms
    from hstmap.aws.price_table import DEFAULT_PRICES, load_prices
    from hstmap.bag.ledger import read_ledger
    from hstmap.commands.spending import billed_ms, check_region, function_shape, lambda_place
    from hstmap.storage_backend import n_put_requests

    settings, place = limits.settings, lambda_place(limits.settings)
    prices = load_prices(settings.prices or DEFAULT_PRICES)
    if settings.budget_usd is not None and "prices" not in settings.given:
        check_region(prices, place)
    n_most = max(file.n_sources for file in plan.todo)
    terms = replace(
        CallTerms.of(function_shape(settings), prices, limits.work(0, 0)),
        n_get=max(len(file.slices) for file in plan.todo) + _ENGINE_GETS,
        n_put=n_put_requests(n_most * _MOST_NBYTES_A_SOURCE, in_parts=True) + _ENGINE_PUTS,
    )
    # Each file's end is read, and it is moved.
    to_come_usd = len(plan.files) * (terms.get_usd + terms.put_usd) + _CLIENT_PUTS * terms.put_usd
    earlier_usd = 0.0
    if settings.budget_usd is not None:
        earlier_usd = spent_before(read_ledger(plan.store), terms, billed_ms(plan.store))
    return Account(terms, settings.budget_usd, earlier_usd, to_come_usd)
