"""`plan` and `map` choose memory and batch, and rest on pilots; what they foresaw stays."""

from __future__ import annotations

import argparse
import json
import re

import pandas as pd
import pytest

from hstmap.account.requests_made import requests_of_run
from hstmap.account.run_plans import planned_usage
from hstmap.aws.usage import Usage
from hstmap.cli import main
from hstmap.commands.plan import _function as planned_function
from hstmap.run_record import read_plans
from hstmap.storage import open_store
from support.archive import write_archive

N_IMAGES = 8


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planning") / "images"
    write_archive(folder, N_IMAGES)
    return str(folder)


def run_map(images, out, *options):
    return main(["map", images, "-o", str(out), "--engine", "inprocess", *options])


# -- plan ----------------------------------------------------------------------------------------


def test_plan_prints_the_curve_that_it_chose_from(tmp_path, capsys):
    kept = tmp_path / "plan.json"
    options = ["--memory", "auto", "--batch", "auto", "--workers", "50", "--json", str(kept)]
    assert main(["plan", "--images", "2000", *options]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^choice    the cheapest of \d+, of which \d were simulated", shown, re.M)
    (row,) = re.findall(r"^  chosen \*(.*)$", shown, re.M)
    memory, batch, low_s, expected_s, high_s, *usd = (
        float(cell.replace(",", "")) for cell in row.split()
    )
    assert 0 < low_s <= expected_s <= high_s
    assert usd == sorted(usd)
    record = json.loads(kept.read_text())
    assert record["choice"]["chosen"] == {"memory_mb": memory, "batch_size": batch}
    assert record["shape"]["memory_mb"] == memory
    assert f" at a time, {memory:.0f} MB, arm64" in shown
    assert len(record["choice"]["points"]) > 20
    assert Usage.from_dict(record["usage"]).n_calls >= 2000 / batch
    assert "profile   built in: " in shown


def test_plan_chooses_by_deadline_and_budget(capsys):
    def total(*options):
        command = ["plan", "--images", "1000", "--workers", "40", *options]
        status = main([*command, "--memory", "auto", "--batch-size", "auto"])
        captured = capsys.readouterr()
        if status:
            return captured.err
        (row,) = re.findall(r"^  chosen \*(.*)$", captured.out, re.M)
        cells = [float(cell.replace(",", "")) for cell in row.split()]
        return cells[3], cells[6]

    cheapest_s, cheapest_usd = total()
    timely_s, timely_usd = total("--deadline", f"{cheapest_s * 0.75}")
    assert timely_s <= cheapest_s * 0.75
    assert timely_usd >= cheapest_usd * 0.99
    thrifty_s, thrifty_usd = total("--budget", f"{cheapest_usd * 1.5}")
    assert thrifty_usd <= cheapest_usd * 1.5
    assert thrifty_s <= cheapest_s
    assert "the fastest, " in total("--deadline", "2")
    assert "the cheapest, " in total("--budget", "0.0001")


def test_one_of_both_can_be_given(capsys):
    options = ["--images", "500", "--workers", "20", "--memory", "1024", "--batch-size", "auto"]
    assert main(["plan", *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("choice")) + 2
    rows = [line[10:].split() for line in lines[first : first + 8]]
    assert {row[0] for row in rows} == {"1,024"}
    assert [int(row[1]) for row in rows] == [1, 2, 4, 8, 16, 32, 64, 100]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--deadline", "30"], "--deadline is for"),
        (["--pilot", "5"], "--pilot and --out together"),
        (["--out", "somewhere"], "--pilot and --out together"),
        (["--pilot", "5", "--out", "x", "--profile", "y"], "give no --profile"),
        (["--pilot", "5", "--out", "x"], "give a SOURCE, not their number"),
    ],
)
def test_plan_refuses_what_does_not_go_together(options, words, capsys):
    assert main(["plan", "--images", "100", *options]) == 2
    assert words in capsys.readouterr().err


def test_after_a_pilot_the_function_is_the_configured_one(tmp_path):
    config = tmp_path / "aws.yaml"
    config.write_text(
        "lithops: {backend: aws_lambda, storage: aws_s3}\n"
        "aws: {region: us-east-1}\n"
        "aws_lambda: {runtime_memory: 2048, architecture: x86_64}\n"
    )
    names = ("memory", "architecture", "pilot", "config")

    def function(**given):
        shape = planned_function(argparse.Namespace(**dict.fromkeys(names) | given))
        return shape.memory_mb, shape.architecture

    assert function() == (1769, "arm64")
    assert function(memory=1024, architecture="x86_64") == (1024, "x86_64")
    assert function(pilot=5, config=str(config)) == (2048, "x86_64")
    assert function(pilot=5, config=str(config), architecture="arm64") == (2048, "arm64")
    assert function(pilot=5, config=str(config), memory="auto") == (2048, "x86_64")


@pytest.mark.parametrize("value", ["0", "-3", "much", "1.5"])
def test_memory_is_a_number_or_auto(value, capsys):
    assert main(["plan", "--images", "100", "--memory", value]) == 2
    assert "'auto'" in capsys.readouterr().err


def test_a_pilot_of_a_plan_is_kept_and_map_goes_on_with_it(images, tmp_path, capsys):
    out = tmp_path / "out"
    options = ["--pilot", "3", "--out", str(out), "--engine", "inprocess", "--batch-size", "2"]
    assert main(["plan", images, *options, "--threshold", "2.5"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^images    5 beyond the pilot's 3, ", shown, re.M)
    assert re.search(r"^profile   pilot: from 3 images of this run; measured on \S+", shown, re.M)
    done = {path.name for path in (out / "parts").iterdir()}
    assert len(done) == 3  # one image each: a pilot has four batches, or as many as images
    assert run_map(images, out, "--quiet") == 2  # with other parameters
    assert run_map(images, out, "--quiet", "--threshold", "2.5") == 0
    assert done < {path.name for path in (out / "parts").iterdir()}
    assert len(pd.read_parquet(out / "images.parquet")) == N_IMAGES
    plans = read_plans(open_store(str(out)))
    assert [plan["n_todo"] for plan in plans] == [3, 5]


def test_a_pilot_of_all_leaves_nothing_to_plan(images, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["plan", images, "--pilot", "20", "--out", str(out), "--engine", "inprocess"]
    assert main([*command, "--limit", "2"]) == 0
    assert "the pilot has done all images" in capsys.readouterr().out
    assert main([*command, "--limit", "2"]) == 0


# -- map -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def piloted(images, tmp_path_factory):
    """A run with a pilot, and what the same map without one made."""
    folder = tmp_path_factory.mktemp("piloted")
    assert run_map(images, folder / "plain", "--batch-size", "2", "--quiet") == 0
    assert run_map(images, folder / "out", "--batch-size", "2", "--pilot", "3", "--quiet") == 0
    return folder


def test_a_pilot_changes_no_result(piloted):
    one, other = ((piloted / name / "sources.parquet").read_bytes() for name in ("plain", "out"))
    assert one == other


def test_the_plans_of_pilot_and_rest_are_kept_with_what_they_expect(piloted):
    store = open_store(str(piloted / "out"))
    pilot, rest = read_plans(store)
    assert (pilot["n_todo"], pilot["n_done"], rest["n_todo"], rest["n_done"]) == (3, 0, 5, 3)
    assert pilot["profile"]["origin"].startswith("built in: ")
    assert rest["profile"]["origin"].startswith("pilot: from 3 images of this run")
    assert rest["estimate"]["simulated"] is True
    assert rest["choice"] is None
    # Of the pilot counts what is expected of it by what it measured.
    total = planned_usage(store)
    assert total == Usage.from_dict(rest["pilot_usage"]) + Usage.from_dict(rest["usage"])
    assert total.n_calls >= 3 + 3


def test_no_request_of_a_run_with_a_pilot_is_counted_twice(piloted):
    plain, out = (
        requests_of_run(open_store(str(piloted / name))).by_origin for name in ("plain", "out")
    )
    # The same images and catalogues; three parts of the pilot and three of the rest for four.
    assert out["workers"].n_get == plain["workers"].n_get == N_IMAGES
    assert out["workers"].n_put == plain["workers"].n_put + 2
    # The pilot's map writes manifest, plan and ledger, too, and the rest looks at its parts.
    assert plain["map"].n_put < out["map"].n_put <= 2 * plain["map"].n_put
    assert out["sources"] == plain["sources"]


def test_map_says_what_its_pilot_measured(images, tmp_path, capsys):
    out = tmp_path / "out"
    assert run_map(images, out, "--limit", "4", "--pilot", "2", "--no-reduce") == 0
    shown = capsys.readouterr().out
    assert "pilot     2 images in 2 batches" in shown
    assert "profile   pilot: from 2 images of this run" in shown
    assert re.search(r"^map       4 images in", shown, re.M)
    # Once all is done there is nothing to try.
    assert run_map(images, out, "--limit", "4", "--pilot", "2", "--no-reduce") == 0
    assert "pilot     " not in capsys.readouterr().out


def test_a_budget_is_held_by_the_pilot_too(images, tmp_path, capsys):
    out = tmp_path / "out"
    assert run_map(images, out, "--pilot", "2", "--budget", "0.0000001") == 2
    assert "budget" in capsys.readouterr().err
    assert not (out / "parts").exists()


def test_on_this_machine_the_batch_is_chosen_and_the_memory_is_not(images, tmp_path, capsys):
    out = tmp_path / "out"
    assert run_map(images, out, "--memory", "auto", "--batch-size", "auto", "--no-reduce") == 0
    shown = capsys.readouterr().out
    assert "choice    the fastest of " in shown
    (plan,) = read_plans(open_store(str(out)))
    assert plan["choice"]["goal"] == "the fastest"
    assert {point["memory_mb"] for point in plan["choice"]["points"]} == {1769}
    assert plan["largest_batch"] == plan["choice"]["chosen"]["batch_size"]
    assert len(list((out / "parts").iterdir())) == plan["n_batches"]


def test_an_earlier_run_can_be_planned_by(piloted, images, tmp_path, capsys):
    options = ["--profile", str(piloted / "plain"), "--limit", "2"]
    assert run_map(images, tmp_path / "out", *options, "--no-reduce", "--quiet") == 0
    (plan,) = read_plans(open_store(str(tmp_path / "out")))
    assert plan["profile"]["origin"].startswith("earlier run: 8 images that the run at ")


def test_a_deadline_is_not_for_this_machine(images, tmp_path, capsys):
    options = ["--batch-size", "auto", "--deadline", "5"]
    assert run_map(images, tmp_path / "out", *options) == 2
    assert "--deadline is for runs on Lambda" in capsys.readouterr().err


def test_a_dry_run_makes_no_pilot(images, tmp_path, capsys):
    out = tmp_path / "out"
    assert run_map(images, out, "--pilot", "2", "--batch-size", "auto", "--dry-run") == 0
    shown = capsys.readouterr().out
    assert "choice    the fastest" in shown
    assert "estimate  simulated" in shown
    assert not out.exists()
