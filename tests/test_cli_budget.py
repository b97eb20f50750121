"""`map --budget`: what is refused, what is stopped, and how it goes on."""

from __future__ import annotations

import json
import re
import shlex
from argparse import Namespace
from importlib.resources import files

import pytest

from hstmap.account.budget import ACCOUNT_EVENT
from hstmap.account.estimate import estimate_run
from hstmap.account.run_assumptions import RunShape
from hstmap.account.run_profile import load_profile
from hstmap.aws.price_table import DEFAULT_PRICES, load_prices
from hstmap.bag.ledger import read_ledger
from hstmap.cli import main
from hstmap.commands.spending import command_with_budget, open_spending, usd_text
from hstmap.config import Settings
from hstmap.errors import UsageError
from hstmap.pipeline import RunOptions, plan_run
from hstmap.storage import open_store
from support.archive import write_archive

N_IMAGES = 4


@pytest.fixture
def images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LITHOPS_CONFIG_FILE", raising=False)
    write_archive(tmp_path / "images", N_IMAGES)
    return tmp_path / "images"


@pytest.fixture
def hstmap(capsys):
    """Run a command one task after another, and read what it said."""

    def run(*words):
        status = main([str(word) for word in words])
        captured = capsys.readouterr()
        return Namespace(status=status, out=captured.out, err=captured.err)

    return run


def mapped(images, out, *words):
    return ("map", images, "-o", out, "--engine", "inprocess", "--batch-size", 1, *words)


def spending_of(images, out, **settings):
    """Open the account that the command opens."""
    from hstmap.archive.sources import resolve_sources
    from hstmap.batch import RunParameters

    options = RunOptions(batch_size=1)
    plan = plan_run(resolve_sources([str(images)]), str(out), RunParameters(), options)
    shape = RunShape(plan.n_todo, batch_size=1)
    estimate = estimate_run(shape, load_profile(), load_prices(), "arm64")
    return open_spending(plan, Settings(**{"engine": "inprocess"} | settings), options, estimate)


def one_call(images, out):
    """A budget that lets one call be sent, and no second one."""
    return f"{1.00001 * spending_of(images, out, budget_usd=1.0).account.needed_usd():.10f}"


def test_a_plan_above_the_budget_is_refused_before_anything_is_done(hstmap, images, tmp_path):
    out = tmp_path / "out"
    said = hstmap(*mapped(images, out, "--budget", "0.00001"))
    assert said.status == 2
    (line,) = said.err.splitlines()
    assert "expected to cost $0.000" in line
    assert "(simulated)" in line
    assert "budget of $0.000010" in line
    for advice in ("--budget", "--limit", "--memory", "--catalogs batch"):
        assert advice in line
    assert not out.exists()
    # What it says would do, does.
    (enough,) = re.findall(r"--budget (\S+),", line)
    assert hstmap(*mapped(images, out, "--budget", enough, "--dry-run")).status == 0


def test_a_dry_run_is_refused_likewise(hstmap, images, tmp_path):
    said = hstmap(*mapped(images, tmp_path / "out", "--budget", "0.00001", "--dry-run"))
    assert said.status == 2


def test_a_budget_that_no_call_fits_into_is_refused(hstmap, images, tmp_path):
    spending = spending_of(images, tmp_path / "out")
    expected = spending.account.spent_usd + spending.expected_usd
    said = hstmap(*mapped(images, tmp_path / "out", "--budget", f"{1.2 * expected:.9f}"))
    assert said.status == 2
    assert "lets no call be sent (simulated)" in said.err
    (enough,) = re.findall(r"--budget (\S+),", said.err)
    assert hstmap(*mapped(images, tmp_path / "out", "--budget", enough)).status == 0


@pytest.mark.parametrize("budget", ["0", "-1", "nan", "inf"])
def test_a_budget_is_a_sum(hstmap, images, tmp_path, budget):
    said = hstmap(*mapped(images, tmp_path / "out", f"--budget={budget}"))
    assert said.status == 2
    assert "budget_usd is" in said.err


def test_a_budget_stops_the_run_and_a_higher_one_goes_on(hstmap, images, tmp_path):
    out, whole = tmp_path / "out", tmp_path / "whole"
    said = hstmap(*mapped(images, out, "--budget", one_call(images, out)))
    assert said.status == 1
    assert "of 4 images (25 %)" in said.err
    assert re.search(r"budget +\$0\.\d+ of \$0\.\d+ is spent at most \(simulated\)", said.err)
    assert "left      3 of 4 images" in said.err
    # Done is what was done; nothing is merged before all of it is there.
    assert len(list((out / "parts").iterdir())) == 1
    assert not (out / "sources.parquet").exists()

    # The same budget is that of the whole run, so it lets nothing more be sent.
    again = hstmap(*mapped(images, out, "--budget", one_call(images, tmp_path / "other")))
    assert again.status == 2
    assert len(list((out / "parts").iterdir())) == 1

    # The command that it names does the rest.
    words = shlex.split(said.err.splitlines()[-1])
    assert words[:4] == ["python", "-m", "hstmap", "map"]
    finished = hstmap(*words[3:])
    assert finished.status == 0
    assert "3 images in 3 batches (1 of 4 are done)" in finished.out
    assert re.search(r"budget .*: \$0\.\d+ is spent, \$0\.\d+ is expected to come", finished.out)
    assert hstmap(*mapped(images, whole)).status == 0
    name = "sources.parquet"
    assert (out / name).read_bytes() == (whole / name).read_bytes()


def test_the_ledger_has_the_terms_of_each_map(hstmap, images, tmp_path):
    out = tmp_path / "out"
    budget = one_call(images, out)
    hstmap(*mapped(images, out, "--budget", budget))
    hstmap(*mapped(images, out))
    ledger = list(read_ledger(open_store(str(out))))
    notes = [entry for entry in ledger if entry["event"] == ACCOUNT_EVENT]
    # 20 s and 600 s for an attempt, and the worker's time to end it.
    limits = {note["budget_usd"]: note["terms"]["limit_s"] for note in notes}
    assert limits == {float(budget): 26, None: 606}
    stages = [entry["complete"] for entry in ledger if entry["event"] == "stage_ended"]
    assert sorted(stages) == [False, True]


def test_progress_tells_the_cost_so_far(hstmap, images, tmp_path):
    said = hstmap(*mapped(images, tmp_path / "out"))
    assert re.search(r"4 of 4 images \(100 %\), .*\$0\.\d+ simulated", said.err)


def test_the_budget_can_be_in_the_configuration(hstmap, images, tmp_path):
    (tmp_path / "lithops_config.yaml").write_text("hstmap: {budget_usd: 0.00001}")
    said = hstmap(*mapped(images, tmp_path / "out"))
    assert said.status == 2
    assert "budget of $0.000010" in said.err
    assert hstmap(*mapped(images, tmp_path / "out", "--budget", "5")).status == 0


def test_attempts_of_a_run_with_a_budget_end_sooner_unless_somebody_says_when(images, tmp_path):
    out = tmp_path / "out"
    assert spending_of(images, out).settings.timeout_s == Settings.timeout_s
    bounded = spending_of(images, out, budget_usd=1.0)
    assert bounded.settings.timeout_s == 20
    assert "an attempt is ended after 20 s" in bounded.plan_line()
    given = frozenset({"timeout_s"})
    chosen = spending_of(images, out, budget_usd=1.0, timeout_s=90.0, given=given)
    assert chosen.settings.timeout_s == 90
    assert chosen.account.terms.most_usd > bounded.account.terms.most_usd


def on_lambda(images, out, **settings):
    section = {"runtime_timeout": settings.pop("runtime_timeout", 300)}
    place = {"aws": {"region": "us-east-1"}, "aws_lambda": section}
    lithops = {"lithops": {"backend": "aws_lambda"}, **place}
    return spending_of(images, out, **{"engine": "lithops", "lithops": lithops} | settings)


def test_first_attempts_on_lambda_end_sooner_without_a_budget_too(images, tmp_path):
    spending = on_lambda(images, tmp_path / "out")
    assert (spending.first_timeout_s, spending.settings.timeout_s) == (20, 300)
    assert "a first attempt is ended after 20 s" in spending.limit_line()
    assert "the last after 300 s" in spending.limit_line()
    # Charged is what any attempt can cost, the last one too.
    assert spending.account.terms.limit_s == 300
    # With a budget all attempts have the short one, and the budget's own line says so.
    bounded = on_lambda(images, tmp_path / "out", budget_usd=1.0)
    assert (bounded.first_timeout_s, bounded.settings.timeout_s) == (None, 20)
    assert bounded.limit_line() is None


@pytest.mark.parametrize("settings", [
    {"timeout_s": 90.0, "given": frozenset({"timeout_s"})},
    {"timeout_s": None, "given": frozenset({"timeout_s"})},
    {"retries": 0},
    {"runtime_timeout": 15},
])  # fmt: skip
def test_first_attempts_have_the_time_of_all_where_that_was_chosen_or_there_is_one_only(
    images, tmp_path, settings
):
    spending = on_lambda(images, tmp_path / "out", **settings)
    assert spending.first_timeout_s is None
    assert spending.limit_line() is None
    if "timeout_s" in settings:
        assert spending.settings.timeout_s == settings["timeout_s"]


def test_on_this_machine_slow_attempts_are_let_alone(images, tmp_path):
    spending = spending_of(images, tmp_path / "out")
    assert spending.first_timeout_s is None
    assert spending.settings.timeout_s == Settings.timeout_s


def test_a_table_of_prices_can_be_given(hstmap, images, tmp_path):
    cheap = json.loads((files("hstmap.aws") / "prices" / f"{DEFAULT_PRICES}.json").read_text())
    cheap |= {name: 1e-12 for name in cheap if name.endswith("_usd")}
    cheap["lambda_gb_s_usd"] = {"arm64": 1e-12, "x86_64": 1e-12}
    (tmp_path / "cheap.json").write_text(json.dumps(cheap))
    words = mapped(images, tmp_path / "out", "--budget", "0.00001", "--dry-run")
    assert hstmap(*words).status == 2
    assert hstmap(*words, "--prices", "cheap.json").status == 0


@pytest.mark.parametrize(("region", "given", "is_taken"), [
    ("us-east-1", (), True),
    ("eu-west-2", (), False),
    ("eu-west-2", ("prices",), True),
])  # fmt: skip
def test_a_budget_is_reckoned_with_the_prices_of_the_functions_region(
    images, tmp_path, region, given, is_taken
):
    lithops = {"lithops": {"backend": "aws_lambda"}, "aws": {"region": region}}
    settings = {"lithops": lithops, "given": frozenset(given), "engine": "lithops"}
    out = tmp_path / "out"
    assert not spending_of(images, out, **settings).simulated  # without a budget it is no matter
    if is_taken:
        assert not spending_of(images, out, budget_usd=1.0, **settings).simulated
        return
    with pytest.raises(UsageError, match=r"hstmap prices --region eu-west-2 -o eu-west-2\.json"):
        spending_of(images, out, budget_usd=1.0, **settings)


def test_what_an_earlier_map_spent_is_the_runs_also_when_it_begins_afresh(hstmap, images, tmp_path):
    out = tmp_path / "out"
    assert hstmap(*mapped(images, out)).status == 0
    budget = one_call(images, tmp_path / "other")
    said = hstmap(*mapped(images, out, "--overwrite", "--budget", budget))
    assert said.status == 2  # the ledger stays, and what is in it was paid for


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["map", "a b", "-o", "x"], "python -m hstmap map 'a b' -o x --budget 2.5"),
        (["map", "--budget", "1", "a"], "python -m hstmap map a --budget 2.5"),
        (["map", "--budget=1", "a"], "python -m hstmap map a --budget 2.5"),
        (["map", "a", "--budget", "1"], "python -m hstmap map a --budget 2.5"),
    ],
)
def test_a_command_is_told_with_another_budget(words, expected):
    assert command_with_budget(words, 2.5) == expected


def test_sums_have_the_digits_that_they_need():
    assert usd_text(1.5) == "$1.5000"
    assert usd_text(0.0123456) == "$0.0123"
    assert usd_text(0.00012345) == "$0.000123"
