from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstmap.batch import CATALOGS
from hstmap.cli import build_parser, main
from hstmap.commands.reports import summary_lines
from support.archive import write_archive, write_broken_files


@pytest.fixture
def images(tmp_path):
    write_archive(tmp_path / "images", 3)
    return tmp_path / "images"


def hstmap(*arguments):
    return main([str(argument) for argument in arguments])


def test_map_reports_what_it_did_and_how_to_open_it(images, tmp_path, capsys):
    out = tmp_path / "out"
    assert hstmap("map", images, "--out", out, "--engine", "inprocess") == 0
    captured = capsys.readouterr()
    assert re.search(r"3 images in \d+ batch", captured.out)
    assert "3 ok" in captured.out
    assert "of 3 images (100 %)" in captured.err
    (command,) = re.findall(r"python -c .*", captured.out)
    shown = subprocess.run(
        [sys.executable, *shlex.split(command)[1:]], capture_output=True, text=True, check=True
    )
    assert "isim03a1q" in shown.stdout


@given(
    st.dictionaries(
        st.tuples(st.sampled_from(["rejected", "failed", "missing"]), st.text("abc_", min_size=1)),
        st.integers(1, 10**6),
    )
)
def test_reasons_are_told_in_whole(reasons):
    summary = SimpleNamespace(
        n_images=1, n_sources=1, n_files=1, outcomes={"ok": 1}, sources_url="s", images_url="i",
        reasons=reasons,
    )  # fmt: skip
    lines = [line[10:] for line in summary_lines(summary)[1:-4]]
    told = [item for line in lines for item in line.removesuffix(",").split(", ") if item]
    assert sorted(told) == sorted(f"{n:,} {what} ({why})" for (what, why), n in reasons.items())


def test_one_image_is_no_images(images, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["map", str(images), "-o", str(out), "--engine", "inprocess", "--limit", "1"]) == 0
    told = capsys.readouterr().out
    assert "plan      1 image in 1 batch" in told
    assert "at least 1 read and 2 writes" in told
    assert "map       1 image in " in told
    assert main(["plan", str(images), "--batch-size", "1"]) == 0
    assert re.search(r"calls +\d+ of 1 image, ", capsys.readouterr().out)


def test_quiet_says_nothing(images, tmp_path, capsys):
    assert hstmap("map", images, "-o", tmp_path / "out", "--engine", "inprocess", "--quiet") == 0
    assert capsys.readouterr() == ("", "")


def test_without_a_source_the_sample_is_done(tmp_path, capsys):
    out = tmp_path / "out"
    assert hstmap("map", "--out", out) == 0
    first, *_ = capsys.readouterr().out.splitlines()
    assert "simulated" in first
    assert "python -m hstmap map" in first
    rows = pd.read_parquet(out / "images.parquet")
    assert set(rows["outcome"]) == {"ok"}
    truth = out / "sample" / f"{rows['rootname'][0]}_truth.ecsv"
    assert truth.is_file()
    assert hstmap("overlay", out, rows["rootname"][0], "-o", tmp_path / "picture.png") == 0
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_a_dry_run_writes_nothing(images, tmp_path, capsys):
    for sources in ([images], []):
        assert hstmap("map", *sources, "--out", tmp_path / "out", "--dry-run") == 0
        assert "plan" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_a_large_run_on_s3_is_told_what_small_files_cost(tmp_path, s3_bucket, capsys):
    lines = [f"s3://nowhere/i{i:07d}q_flt.fits" for i in range(20_000)]
    (tmp_path / "keys.txt").write_text("\n".join(lines))

    def notes(n_images, out, *options):
        many = ("--limit", n_images, "--batch-size", 100, "--dry-run")
        assert hstmap("map", tmp_path / "keys.txt", "-o", out, *many, *options) == 0
        return [line for line in capsys.readouterr().out.splitlines() if "--catalogs" in line]

    (note,) = notes(20_000, f"{s3_bucket}/run")
    assert "is 0.10 USD of S3 requests" in note  # at 5 USD a million
    assert "--catalogs batch keeps the same tables in 200 files for 0.00 USD" in note
    assert notes(20_000, f"{s3_bucket}/run", "--catalogs", "batch") == []
    assert notes(500, f"{s3_bucket}/run") == []
    assert notes(20_000, tmp_path / "out") == []


def test_map_and_reduce_can_be_split(images, tmp_path, capsys):
    out = tmp_path / "out"
    assert hstmap("map", images, "-o", out, "--engine", "inprocess", "--no-reduce") == 0
    assert f"python -m hstmap reduce {out}" in capsys.readouterr().out
    assert not (out / "sources.parquet").exists()
    assert hstmap("reduce", out) == 0
    assert len(pd.read_parquet(out / "images.parquet")) == 3


def test_failed_images_give_status_one_and_keep_the_rest(images, tmp_path, capsys):
    write_broken_files(images)
    assert hstmap("map", images, "-o", tmp_path / "out", "--engine", "inprocess") == 1
    captured = capsys.readouterr()
    assert "3 ok, 1 rejected, 3 failed" in captured.out
    assert "Traceback" not in captured.err
    assert len(pd.read_parquet(tmp_path / "out" / "images.parquet")) == 7


def test_limit_and_filter_choose_images(images, tmp_path):
    common = ("--engine", "inprocess", "--no-catalogs")
    assert hstmap("map", images, "-o", tmp_path / "a", "--limit", 2, *common) == 0
    assert len(pd.read_parquet(tmp_path / "a" / "images.parquet")) == 2
    assert not (tmp_path / "a" / "catalogs").exists()
    table = pd.DataFrame(
        {
            "rootname": ["isim01a1q", "isim02a1q"],
            "key": [str(images / f"isim0{i}a1q_flt.fits") for i in (1, 2)],
            "filter": ["F160W", "F125W"],
        }
    )
    table.to_csv(tmp_path / "m.csv", index=False)
    assert (
        hstmap("map", tmp_path / "m.csv", "-o", tmp_path / "b", "--filter", "F125W", *common) == 0
    )
    assert list(pd.read_parquet(tmp_path / "b" / "images.parquet")["rootname"]) == ["isim02a1q"]
    # A folder does not say which filters its images have: their headers do.
    assert hstmap("map", images, "-o", tmp_path / "c", "--filter", "f125w", *common) == 0
    rows = pd.read_parquet(tmp_path / "c" / "images.parquet")
    assert list(rows["outcome"]) == ["rejected", "ok", "rejected"]
    assert set(rows["reason"]) == {"other_filter", ""}


def test_detection_options_reach_the_workers(images, tmp_path):
    counts = {}
    for name, options in {
        "default": (), "high": ("--threshold", 10), "blog": ("--preset", "blog"),
    }.items():  # fmt: skip
        out = tmp_path / name
        assert hstmap("map", images, "-o", out, "--engine", "inprocess", "--quiet", *options) == 0
        counts[name] = len(pd.read_parquet(out / "sources.parquet"))
    assert counts["high"] < counts["default"]
    assert counts["blog"] != counts["default"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["map", "{images}", "--no-such-option"], "unrecognized arguments: --no-such-option"),
        (["map", "{images}", "--limit", "0"], "0 is less than 1"),
        (["map", "{images}", "--threshold", "-1"], "threshold is -1.0; it must be more than 0"),
        (["map", "{images}", "--preset", "best"], "invalid choice: 'best'"),
        (["map", "{images}", "--good-bits", "three"], "three"),
        (["map", "{images}", "--config", "{tmp}/none.yaml"], "cannot be read"),
        (["map", "{tmp}/nowhere/*.fits"], "nowhere"),
        (["map", "{tmp}/twice.csv"], "isim01a1q"),
        (["map", "{tmp}/short.csv"], "rootname"),
        (["map", "{images}", "--out", "{tmp}/file/out"], "{tmp}/file"),
        (["reduce", "{tmp}"], "there is no run at {tmp}"),
        (["overlay", "{tmp}", "x"], "there is no run at {tmp}"),
        (["paint"], "invalid choice: 'paint'"),
        ([], "COMMAND"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(images, tmp_path, capsys, arguments, message):
    places = {"images": images, "tmp": tmp_path}
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "twice.csv").write_text(
        "rootname,key\nisim01a1q,a_flt.fits\nisim01a1q,b_flt.fits\n"
    )
    (tmp_path / "short.csv").write_text("key\na_flt.fits\n")
    assert main([argument.format(**places) for argument in arguments]) == 2
    captured = capsys.readouterr()
    last = captured.err.strip().splitlines()[-1]
    assert "error" in last
    assert message.format(**places) in last
    assert "Traceback" not in captured.err
    assert not (tmp_path / "hstmap-out").exists()


def test_debug_shows_where(images, tmp_path, capsys):
    assert main(["reduce", str(tmp_path), "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_folder_with_its_own_results_is_mapped_once(images, monkeypatch, capsys):
    monkeypatch.chdir(images)
    words = ["map", ".", "--engine", "inprocess"]
    assert main(words) == 0
    n_images = len(pd.read_parquet("hstmap-out/images.parquet"))
    capsys.readouterr()
    assert main(words) == 0
    told = capsys.readouterr().out
    assert f"0 images in 0 batches ({n_images} of {n_images} are done)" in told
    assert f"note      .: {n_images + 1} FITS files are results of runs" in told


def test_what_a_task_raised_is_told_in_one_line(images, tmp_path, capsys):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "info").write_text("where a folder should be")
    words = ["info", str(images), "-o", str(tmp_path / "results"), "--engine", "inprocess"]
    assert main([*words, "--quiet"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("hstmap info: error: task ")
    assert "a folder is needed" in line
    assert line.endswith("(--debug shows where)")
    assert main([*words, "--quiet", "--debug"]) == 1
    told = capsys.readouterr().err
    assert "In the worker:" in told
    assert "--debug shows" not in told


@pytest.mark.parametrize("words", [
    ["plan", "--images", "9", "--json", "{tmp}/file/plan.json"],
    ["fetch", "{images}", "--to", "{tmp}/file/images"],
])  # fmt: skip
def test_what_the_system_refuses_is_told_in_one_line(images, tmp_path, capsys, words):
    (tmp_path / "file").write_text("not a folder")
    words = [word.format(images=images, tmp=tmp_path) for word in words]
    assert main(words) == 2
    told = capsys.readouterr().err.splitlines()
    assert told[-1].startswith(f"hstmap {words[0]}: error: {words[-1]}")
    assert told[-1].endswith(": Not a directory")
    assert not any("Traceback" in line for line in told)
    assert main([*words, "--debug"]) == 2
    assert "NotADirectoryError" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["map", "reduce", "overlay"])
def test_help_answers(command, capsys):
    assert main([command, "--help"]) == 0
    assert "usage: hstmap" in capsys.readouterr().out


@pytest.mark.parametrize("command", [["map"], ["plan", "--images", "9"]])
def test_commands_that_run_maps_know_all_catalogues_there_are(command, capsys):
    parser = build_parser()
    assert parser.parse_args(command).catalogs == CATALOGS[0]
    for catalogs in CATALOGS:
        assert parser.parse_args([*command, "--catalogs", catalogs]).catalogs == catalogs
    assert parser.parse_args([*command, "--no-catalogs"]).catalogs == "none"
    with pytest.raises(SystemExit):
        parser.parse_args([*command, "--catalogs", "all"])
    assert "invalid choice: 'all'" in capsys.readouterr().err


def test_an_interrupted_run_keeps_its_parts_and_goes_on(tmp_path):
    names = write_archive(tmp_path / "images", 3)
    for name in names:
        content = (tmp_path / "images" / f"{name}_flt.fits").read_bytes()
        for i in range(10):
            (tmp_path / "images" / f"{name[:-2]}{i}x_flt.fits").write_bytes(content)
    out = tmp_path / "out"
    command = [
        sys.executable, "-m", "hstmap", "map", str(tmp_path / "images"), "--out", str(out),
        "--batch-size", "1", "--workers", "2", "--no-catalogs",
    ]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while len(list(out.glob("parts/*.parquet"))) < 3 and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    n_kept = len(list(out.glob("parts/*.parquet")))
    assert process.returncode == 130
    assert "run the same command again to go on" in err
    assert "Traceback" not in err
    assert 3 <= n_kept < 33
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"({n_kept} of 33 are done)" in done.stdout
    assert len(pd.read_parquet(out / "images.parquet")) == 33


def test_results_of_s3_are_those_of_this_disk(images, tmp_path, s3_bucket):
    for out in (str(tmp_path / "out"), f"{s3_bucket}/run"):
        assert hstmap("map", images, "--out", out, "--quiet") == 0
        assert hstmap("map", images, "--out", out, "--quiet") == 0
    from hstmap.storage import open_store

    local, remote = (
        open_store(out).get("sources.parquet")
        for out in (str(tmp_path / "out"), f"{s3_bucket}/run")
    )
    assert local == remote
    catalogs = {info.key for info in open_store(f"{s3_bucket}/run").list("catalogs/")}
    assert len(catalogs) == 3
    table = pd.read_parquet(tmp_path / "out" / "sources.parquet")
    assert np.isfinite(table["ra"]).all()
