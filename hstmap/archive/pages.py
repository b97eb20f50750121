"""A long answer in pages, a few at a time: complete, or an error that says what is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from hstmap.archive.patience import Patience, TroubleError, patiently
from hstmap.errors import ArchiveError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Page", "PagedQuery", "Pages", "PagingOptions", "Progress", "read_pages"]

_N_RESTARTS = 2


@dataclass(frozen=True)
class Page:
    """One answer.

    Parameters
    ----------
    n_total : int
        Rows that the archive says there are on all pages.
    names : list of str
        What tells the rows apart: no name is on two rows.
    table : pyarrow.Table
        The rows.
    """

    n_total: int
    names: list[str]
    table: pa.Table


@dataclass(frozen=True)
class Pages:
    """All pages of an answer, whole and without repeats.

    Parameters
    ----------
    n_total : int
        Rows that the archive says there are; more than there are here if `limit` cut them off.
    tables : list of pyarrow.Table
        The pages, in order.
    """

    n_total: int
    tables: list[pa.Table]


class PagedQuery(Protocol):
    """A query that can be asked for any of its pages; threads may ask at the same time."""

    what: str
    page_size: int

    def page(self, number: int) -> Page:
        """Ask once for a page, counted from 0; raise `requests.RequestException` on a fault."""


@dataclass(frozen=True)
class Progress:
    """How far it is.

    Parameters
    ----------
    unit : str
        What is counted: ``'pages'``, or ``'prefixes'`` of a listing.
    n_done, n_units : int
        Of those.
    n_rows : int
        Rows, or objects of a listing, that are here.
    n_rows_total : int, optional
        Rows that will be here; None if nobody says.
    """

    unit: str
    n_done: int
    n_units: int
    n_rows: int
    n_rows_total: int | None = None


@dataclass(frozen=True)
class PagingOptions:
    """How to read pages.

    Parameters
    ----------
    limit : int, optional
        Rows to be content with.
    n_threads : int
        Pages that are asked for at the same time. MAST is shared: keep it a few.
    patience : Patience
        What to do about faults.
    on_progress : callable, optional
        Called with a `Progress` after every page.
    on_trouble : callable, optional
        Told of every fault that is about to be retried.
    """

    limit: int | None = None
    n_threads: int = 4
    patience: Patience = field(default_factory=Patience)
    on_progress: Callable[[Progress], None] | None = None
    on_trouble: Callable[[str], None] | None = None


class _TotalChangedError(TroubleError):
    """The archive counts other rows than it did for the first page."""


def read_pages(query: PagedQuery, options: PagingOptions) -> Pages:
    """Read a query's pages until every row that the archive counts is here, once.

    A page that is short, holds a row twice or comes with another total is asked for again; so
    are pages that share rows, all of them, since there is no telling which one is wrong. When
    the archive keeps counting otherwise than at first, it took in data in the meantime: all is
    asked anew.

    Parameters
    ----------
    query : PagedQuery
        What to ask.
    options : PagingOptions
        How.

    Raises
    ------
    ArchiveError
        If the pages do not become whole within the options' patience.
    """
    for n_restarts in range(_N_RESTARTS + 1):
        try:
            return _Reading(query, options).read()
        except ArchiveError as error:
            changed = isinstance(error.__cause__, _TotalChangedError)
            if not changed or n_restarts == _N_RESTARTS:
                raise
            if options.on_trouble:
                options.on_trouble(f"{error.__cause__}; asking anew from the first page")
    raise AssertionError("the last round returns or raises")


class _Reading:
    """One pass over the pages."""

    def __init__(self, query: PagedQuery, options: PagingOptions) -> None:
        self.query = query
        self.options = options
        self.pages: dict[int, Page] = {}
        self.n_total = -1
        self.n_wanted = 0
        self.n_pages = 0

    def read(self) -> Pages:
        first = self._ask(0)
        self.pages[0] = first
        self._plan(first)
        self._report()
        wrong: Iterable[int] = range(1, self.n_pages)
        patience = self.options.patience
        for n_failed in range(1, patience.n_attempts + 1):
            self._ask_all(wrong)
            wrong = self._overlapping()
            if not wrong:
                tables = [self.pages[number].table for number in range(self.n_pages)]
                if tables:
                    n_last = self.n_wanted - (self.n_pages - 1) * self.query.page_size
                    tables[-1] = tables[-1].slice(0, n_last)
                return Pages(self.n_total, tables)
            if n_failed < patience.n_attempts:
                if self.options.on_trouble:
                    self.options.on_trouble(f"{self.query.what}: pages {wrong} share rows")
                patience.sleep(patience.delay_s(n_failed))
        raise ArchiveError(
            f"{self.query.what}: pages {wrong} still share rows after {patience.n_attempts} "
            f"rounds, so that fewer than the {self.n_total} rows that the archive counts are "
            "here. Try again later, or list the bucket instead (--source listing)."
        )

    def _plan(self, first: Page) -> None:
        limit = self.options.limit
        self.n_total = first.n_total
        self.n_wanted = first.n_total if limit is None else min(limit, first.n_total)
        self.n_pages = -(-self.n_wanted // self.query.page_size)

    def _ask_all(self, numbers: Iterable[int]) -> None:
        pool = ThreadPoolExecutor(self.options.n_threads)
        try:
            asked = {pool.submit(self._ask, number): number for number in numbers}
            for done in as_completed(asked):
                self.pages[asked[done]] = done.result()
                self._report()
        finally:
            pool.shutdown(cancel_futures=True)

    def _ask(self, number: int) -> Page:
        what = f"{self.query.what}, page {number + 1}"
        if self.n_pages:
            what += f" of {self.n_pages}"
        return patiently(
            lambda: self._checked(number), self.options.patience, what, self.options.on_trouble
        )

    def _checked(self, number: int) -> Page:
        page = self.query.page(number)
        n_total = page.n_total if self.n_total < 0 else self.n_total
        if page.n_total != n_total:
            raise _TotalChangedError(
                f"the archive now counts {page.n_total} rows, {n_total} at first"
            )
        n_expected = max(0, min(self.query.page_size, n_total - number * self.query.page_size))
        if len(page.names) != n_expected:
            raise TroubleError(f"{len(page.names)} rows came, {n_expected} were expected")
        if len(set(page.names)) != len(page.names):
            raise TroubleError("the page holds the same row twice")
        return page

    def _overlapping(self) -> list[int]:
        """Return the numbers of all pages that share a row with another."""
        owners: dict[str, int] = {}
        shared = set()
        for number, page in sorted(self.pages.items()):
            for name in page.names:
                owner = owners.setdefault(name, number)
                if owner != number:
                    shared |= {owner, number}
        return sorted(shared)

    def _report(self) -> None:
        if self.options.on_progress:
            n_rows = min(self.n_wanted, sum(len(page.names) for page in self.pages.values()))
            self.options.on_progress(
                Progress("pages", len(self.pages), self.n_pages, n_rows, self.n_wanted)
            )
