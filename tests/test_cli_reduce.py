"""`reduce`, and `map --rows-a-file`: where tasks run, what is said, refused, and left."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pandas as pd
import pytest

from hstmap.account.estimate import estimate_run
from hstmap.account.requests_made import requests_of_run
from hstmap.account.run_assumptions import RunShape
from hstmap.account.run_calls import read_calls
from hstmap.account.run_profile import load_profile
from hstmap.archive.sources import resolve_sources
from hstmap.aws.price_table import load_prices
from hstmap.bag.ledger import read_attempts, read_ledger
from hstmap.batch import RunParameters
from hstmap.cli import Console, main
from hstmap.commands import reducing
from hstmap.commands.call_limits import limit_calls
from hstmap.commands.spending import open_spending
from hstmap.config import Settings, load_settings
from hstmap.errors import EngineError, UsageError
from hstmap.pipeline import RunOptions, plan_run
from hstmap.reduce_plan import plan_reduce
from hstmap.storage import open_store
from support.archive import write_archive
from support.parts import write_mapped

COUNTS = {f"i{number}": number for number in range(12)}
N_SOURCES = sum(COUNTS.values())


@pytest.fixture
def out(tmp_path):
    """A run of four parts, not reduced."""
    names = list(COUNTS)
    parts = [{name: COUNTS[name] for name in names[i : i + 3]} for i in range(0, 12, 3)]
    write_mapped(tmp_path / "out", parts, names)
    return tmp_path / "out"


def hstmap(*words) -> int:
    return main([str(word) for word in words])


def shown_by(command) -> str:
    words = [sys.executable, *shlex.split(command)[1:]]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("engine", ["inprocess", "lithops"])
def test_it_says_how_many_files_there_are_and_how_to_open_them(out, capsys, engine):
    assert hstmap("reduce", out, "--rows-a-file", 10, "--engine", engine) == 0
    captured = capsys.readouterr()
    n_files = len(list((out / "sources").iterdir()))
    assert n_files > 4
    assert f"{N_SOURCES} sources into {n_files} files, {n_files} of them" in captured.out
    assert f"sources   {N_SOURCES} in {n_files} files" in captured.out
    assert f"of {n_files} files (100 %)" in captured.err
    (command,) = re.findall(r"python -c .*", captured.out)
    assert f"[{N_SOURCES} rows x" in shown_by(command)


def test_a_small_run_is_merged_here_and_says_so_as_ever(out, capsys):
    assert hstmap("reduce", out) == 0
    captured = capsys.readouterr()
    assert f"sources   {N_SOURCES}\n" in captured.out
    assert "files" not in captured.out
    assert (captured.err, list(read_attempts(open_store(str(out))))) == ("", [])
    (command,) = re.findall(r"python -c .*", captured.out)
    assert f"[{N_SOURCES} rows x" in shown_by(command)


def test_what_was_done_is_not_done_again(out, capsys):
    hstmap("reduce", out, "--rows-a-file", 10, "--engine", "inprocess")
    n_attempts = len(list(read_attempts(open_store(str(out)))))
    capsys.readouterr()
    assert hstmap("reduce", out, "--rows-a-file", 10, "--engine", "inprocess") == 0
    assert "into" not in capsys.readouterr().out
    assert len(list(read_attempts(open_store(str(out))))) == n_attempts


def test_a_map_ends_with_the_same_reduce(tmp_path, capsys):
    write_archive(tmp_path / "images", 3)
    words = ["map", tmp_path / "images", "--engine", "inprocess", "--no-catalogs"]
    assert hstmap(*words, "--out", tmp_path / "one") == 0
    assert hstmap(*words, "--out", tmp_path / "several", "--rows-a-file", 20) == 0
    assert re.search(r"sources   \d+ in \d files", capsys.readouterr().out)
    one = pd.read_parquet(tmp_path / "one" / "sources.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "several" / "sources"), one)
    assert hstmap("bill", tmp_path / "several") == 0
    assert hstmap("export", tmp_path / "several", "-o", tmp_path / "all.csv") == 0
    assert len(pd.read_csv(tmp_path / "all.csv")) == len(one)
    assert hstmap(*words, "--out", tmp_path / "several", "--overwrite", "--no-reduce") == 0
    assert not (tmp_path / "several" / "sources").exists() or not any(
        (tmp_path / "several" / "sources").iterdir()
    )


def test_calls_of_the_reduce_are_calls_of_the_run_and_their_requests_count_once(out):
    hstmap("reduce", out, "--rows-a-file", 10, "--engine", "inprocess")
    store = open_store(str(out))
    n_files = len(list((out / "sources").iterdir()))
    attempts = list(read_attempts(store))
    assert Counter(attempt.stage for attempt in attempts) == {"reduce": n_files}
    assert sum(attempt.value["n_sources"] for attempt in attempts) == N_SOURCES
    assert len(read_calls(store).attempts) == n_files
    made = requests_of_run(store)
    told = sum(attempt.value["requests"]["n_get"] for attempt in attempts)
    assert made.by_origin["workers"].n_get == told >= n_files
    # What this process did for tasks is theirs: files, and nothing else, were written by them.
    assert made.by_origin["workers"].n_put == n_files
    n_moved, n_tables, n_marks = n_files, 1, 1
    assert made.by_origin["reduce"].n_put == n_moved + n_tables + n_marks
    assert made.n_silent_clients == 0


def test_a_budget_stops_it_and_a_higher_one_goes_on(out, capsys):
    words = ["reduce", out, "--rows-a-file", 10, "--engine", "inprocess"]
    plan = plan_reduce(str(out), rows_a_file=10)
    settings = load_settings().with_options(engine="inprocess", budget_usd=1.0)
    account = reducing._account(plan, limit_calls(settings, None, 0.0))
    assert hstmap(*words, "--budget", f"{1.00001 * account.needed_usd():.10f}") == 1
    said = capsys.readouterr().err
    n_files = len(plan.files)
    assert f"{n_files - 1} of {n_files} files of sources are left" in said
    assert not (out / "images.parquet").exists()
    (enough,) = re.findall(r"--budget (\S+) or more", said)
    assert hstmap(*words, "--budget", 10 * float(enough)) == 0
    assert len(pd.read_parquet(out / "sources")) == N_SOURCES
    terms = [entry["terms"] for entry in read_ledger(open_store(str(out))) if "terms" in entry]
    assert len(terms) == 2
    assert terms[0]["n_get"] == 2 + max(len(file.slices) for file in plan.files)


def test_a_budget_of_the_configuration_is_obeyed(out, tmp_path, capsys):
    config = tmp_path / "config.yaml"
    config.write_text("hstmap: {engine: inprocess, budget_usd: 0.0000001}\n")
    assert hstmap("reduce", out, "--rows-a-file", 10, "--config", config) == 1
    assert "does not hold one more call" in capsys.readouterr().err
    assert hstmap("reduce", out, "--config", config) == 0  # no call


def test_workers_elsewhere_must_reach_the_run_and_have_room_for_its_files(out, tmp_path, capsys):
    config = tmp_path / "config.yaml"
    config.write_text("lithops: {backend: aws_lambda, storage: aws_s3}\n")
    words = ["reduce", out, "--rows-a-file", 10, "--config", config]
    assert hstmap(*words) == 2
    assert "workers on another machine cannot reach" in capsys.readouterr().err
    assert not (out / "images.parquet").exists()
    assert hstmap(*words, "--engine", "inprocess") == 0
    elsewhere = Settings(lithops={"lithops": {"backend": "aws_lambda"}})
    plan = plan_reduce(str(out), rows_a_file=12)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reducing, "_MOST_ROWS_ON_LAMBDA", 1)
        patch.setattr("hstmap.commands.run_options.check_workers_reach", lambda *_: None)
        with pytest.raises(UsageError, match="has room for 1: give a smaller --rows-a-file"):
            reducing._check_reach(plan, elsewhere)


@pytest.mark.parametrize("rows", ["0", "-3", "many"])
def test_rows_are_a_number(out, capsys, rows):
    assert hstmap("reduce", out, f"--rows-a-file={rows}") == 2
    assert "--rows-a-file" in capsys.readouterr().err


def test_where_no_run_is_nothing_is_written(tmp_path, capsys):
    assert hstmap("reduce", tmp_path / "none", "--rows-a-file", 3) == 2
    assert "there is no run at" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def on_lambda(**section):
    place = {"aws": {"region": "us-east-1"}, "aws_lambda": section}
    return Settings(lithops={"lithops": {"backend": "aws_lambda"}, **place})


def test_a_call_is_expected_to_take_what_its_rows_do_on_the_function_that_there_is(out):
    plan = plan_reduce(str(out), rows_a_file=10)
    whole = reducing._expected_s(plan, on_lambda(runtime_memory=1769))
    assert 0 < whole < 0.01
    assert reducing._expected_s(plan, on_lambda(runtime_memory=3538)) == whole
    slow = reducing._expected_s(plan, on_lambda(runtime_memory=512))
    assert slow == pytest.approx(whole * 1769 / 512)


def test_the_first_attempts_of_a_reduce_end_sooner_as_those_of_a_map(out, monkeypatch):
    def refuse(name, options, observers, gate):
        seen.append((options.first_timeout_s, options.timeout_s, gate.terms.limit_s))
        raise EngineError("not today")

    seen: list[tuple[float | None, float | None, float]] = []
    monkeypatch.setattr("hstmap.bag.engine.make_engine", refuse)
    plan = plan_reduce(str(out), rows_a_file=10)
    elsewhere = on_lambda(runtime_timeout=300)
    for settings in (elsewhere, replace(elsewhere, budget_usd=1.0), Settings(engine="inprocess")):
        with pytest.raises(EngineError, match="not today"):
            reducing._reduce_by_tasks(plan, settings, Console(quiet=True))
    # The last of all attempts has the function's own limit, with a budget none has; and on this
    # machine it is what the configuration says.
    usual_s = Settings.timeout_s
    assert seen == [(20, 300, 300), (None, 20, 26), (None, usual_s, usual_s + 6)]


def test_the_budget_of_a_map_keeps_back_what_the_reduce_is_expected_to_cost(tmp_path):
    write_archive(tmp_path / "images", 3)
    options = RunOptions(batch_size=1, catalogs="none")
    manifest = resolve_sources([str(tmp_path / "images")])
    plan = plan_run(manifest, str(tmp_path / "out"), RunParameters(), options)
    needed_usd = []
    for rows_a_file in (None, 1000, 100):
        shape = RunShape(plan.n_todo, batch_size=1, catalogs="none", rows_a_file=rows_a_file)
        estimate = estimate_run(shape, load_profile(), load_prices(), "arm64")
        settings = Settings(engine="inprocess", timeout_s=60.0, budget_usd=1.0)
        spending = open_spending(plan, settings, options, estimate)
        needed_usd.append(spending.account.needed_usd())
    one, four, forty = needed_usd
    assert one < four < forty
    assert forty - one > 10 * load_prices().s3_put_usd
