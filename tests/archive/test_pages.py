"""Pages of a long answer: whatever goes wrong, all rows once or an error."""

from __future__ import annotations

import threading

import pyarrow as pa
import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from hstmap.archive.pages import Page, PagingOptions, read_pages
from hstmap.archive.patience import Patience, TroubleError, patiently
from hstmap.errors import ArchiveError, UsageError

SIZE = 10
FAULTS = ("trouble", "short", "empty", "doubled", "other total", "shifted", "another page")


class ScriptedQuery:
    """Pages of numbers; the first answers to each page are faulty as its script says."""

    what = "numbers"
    page_size = SIZE

    def __init__(self, n_total, scripts=None):
        self.n_total = n_total
        self.scripts = {number: list(faults) for number, faults in (scripts or {}).items()}
        self.asked = []
        self._lock = threading.Lock()

    def rows(self, number):
        return [f"{k:04d}" for k in range(self.n_total)[number * SIZE : (number + 1) * SIZE]]

    def page(self, number):
        with self._lock:
            self.asked.append(number)
            fault = self.scripts[number].pop(0) if self.scripts.get(number) else None
        rows, n_total = self.rows(number), self.n_total
        if fault == "trouble":
            raise TroubleError("no answer")
        if fault == "short":
            rows = rows[:-1]
        if fault == "empty":
            rows = []
        if fault == "doubled" and len(rows) > 1:
            rows = [*rows[:-1], rows[0]]
        if fault == "other total":
            n_total -= 1
        if fault == "shifted":
            rows = [f"{int(row) + 1:04d}" for row in rows]
        if fault == "another page":
            rows = self.rows(0)[: len(rows)]
        return Page(n_total, rows, pa.table({"name": pa.array(rows, pa.string())}))


def names(pages):
    return [name for table in pages.tables for name in table["name"].to_pylist()]


def options(n_attempts=8, **values):
    patience = Patience(n_attempts=n_attempts, sleep=lambda _: None)
    return PagingOptions(patience=patience, **values)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 95),
    st.dictionaries(st.integers(0, 9), st.lists(st.sampled_from(FAULTS), max_size=3), max_size=6),
    st.integers(1, 5),
)
def test_faults_that_pass_never_change_the_answer(n_total, scripts, n_threads):
    """Rows that another page also has, or has not, are noticed by their names alone.

    A page whose rows are shifted by one shares a row with the next; the last page, which has no
    next one, would bring a row that nobody else has: that is what the script leaves out.
    """
    last = max(0, -(-n_total // SIZE) - 1)
    scripts = {
        number: [fault for fault in faults if number < last or fault != "shifted"]
        for number, faults in scripts.items()
    }
    # A first page that counts one row less is believed until another page says otherwise.
    scripts[0] = [fault for fault in scripts.get(0, []) if fault != "other total"]
    query = ScriptedQuery(n_total, scripts)
    pages = read_pages(query, options(n_threads=n_threads))
    assert names(pages) == [f"{k:04d}" for k in range(n_total)]
    assert pages.n_total == n_total


@pytest.mark.parametrize("fault", ["trouble", "short", "doubled", "other total", "another page"])
def test_a_fault_that_stays_is_an_error(fault):
    query = ScriptedQuery(45, {3: [fault] * 1000})
    with pytest.raises(ArchiveError):
        read_pages(query, options(3))


def test_a_page_in_trouble_is_the_only_one_that_is_asked_again():
    query = ScriptedQuery(95, {4: ["trouble", "short"]})
    read_pages(query, options())
    assert sorted(query.asked) == [0, 1, 2, 3, 4, 4, 4, 5, 6, 7, 8, 9]


def test_an_error_that_no_repeat_mends_ends_it_at_once():
    class Refusing(ScriptedQuery):
        def page(self, number):
            if number == 2:
                raise UsageError("no such column")
            return super().page(number)

    query = Refusing(1000)
    with pytest.raises(UsageError, match="no such column"):
        read_pages(query, options(n_threads=2))
    assert len(query.asked) < 50


@pytest.mark.parametrize(("limit", "n_rows"), [(1, 1), (10, 10), (11, 11), (44, 44), (999, 45)])
def test_limit(limit, n_rows):
    query = ScriptedQuery(45)
    pages = read_pages(query, options(limit=limit))
    assert names(pages) == [f"{k:04d}" for k in range(n_rows)]
    assert pages.n_total == 45
    assert len(query.asked) == -(-n_rows // SIZE)


def test_no_more_pages_are_asked_for_at_a_time_than_was_said():
    class Counting(ScriptedQuery):
        n_now = n_most = 0

        def page(self, number):
            with self._lock:
                self.n_now += 1
                self.n_most = max(self.n_most, self.n_now)
            page = ScriptedQuery.page(self, number)
            with self._lock:
                self.n_now -= 1
            return page

    query = Counting(500)
    read_pages(query, options(n_threads=3))
    assert query.n_most <= 3


class TestPatience:
    @given(st.integers(1, 30), st.none() | st.floats(0, 1000))
    def test_waits_are_bounded_and_no_shorter_than_the_server_wants(self, n_failed, retry_after_s):
        patience = Patience(first_delay_s=1.0, longest_delay_s=60.0)
        delay_s = patience.delay_s(n_failed, retry_after_s)
        assert 0.5 <= delay_s <= 60.0
        assert delay_s >= min(60.0, retry_after_s or 0)

    def test_waits_are_drawn(self):
        assert len({Patience().delay_s(3) for _ in range(20)}) > 10

    def test_the_last_fault_is_told(self):
        def ask():
            raise requests.ConnectionError("the cable is out")

        with pytest.raises(ArchiveError, match=r"page 7: no usable answer in 2 tries.*cable"):
            patiently(ask, Patience(n_attempts=2, sleep=lambda _: None), "page 7")

    def test_the_last_failure_is_not_waited_for(self):
        naps = []
        with pytest.raises(ArchiveError):
            patiently(self.fail, Patience(n_attempts=3, sleep=naps.append), "it")
        assert len(naps) == 2

    def fail(self):
        raise TroubleError("busy")
