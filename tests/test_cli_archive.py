"""The commands that ask the archive: manifest, fetch, info."""

from __future__ import annotations

import importlib.util

import pandas as pd
import pytest

from hstmap.archive.manifest import Manifest
from hstmap.bag import engine
from hstmap.bag.engine import make_engine
from hstmap.cli import main
from hstmap.pipeline import BATCH_MODULES
from support.archive import write_archive, write_broken_files


def hstmap(*arguments):
    return main([str(argument) for argument in arguments])


@pytest.fixture
def images(tmp_path):
    write_archive(tmp_path / "images", 3)
    return tmp_path / "images"


def test_a_manifest_is_made_brought_up_to_date_and_mapped(tmp_path, capsys):
    path = tmp_path / "m.parquet"
    assert hstmap("manifest", "--offline", "-o", path) == 0
    captured = capsys.readouterr()
    manifest = Manifest.read(str(path))
    assert f"{len(manifest):,} images" in captured.out
    assert "grism" in captured.out
    assert "rows" in captured.err
    assert hstmap("manifest", "--offline", "--update", path) == 0
    assert "nothing changed" in capsys.readouterr().out
    assert Manifest.read(str(path)).content_hash == manifest.content_hash
    assert hstmap("map", path, "--dry-run", "--limit", 50, "-o", tmp_path / "out") == 0
    assert "the manifest says not to use" in capsys.readouterr().out


def test_a_manifest_is_cut_down_by_what_is_asked(tmp_path):
    path = tmp_path / "m.csv"
    options = ("--filter", "f160w", "--instrument-mode", "imaging", "--limit", 20)
    assert hstmap("manifest", "--offline", *options, "-o", path, "--quiet") == 0
    table = Manifest.read(str(path)).table.to_pandas()
    assert len(table) == 20
    assert set(table["filter"]) == {"F160W"}


def test_a_manifest_is_held_against_what_is_there(images, tmp_path, capsys):
    rows = pd.DataFrame({"rootname": ["isim01a1q", "isim09a1q"], "product": "flt"})
    rows["key"] = [str(images / f"{name}_flt.fits") for name in rows["rootname"]]
    rows.to_csv(tmp_path / "m.csv", index=False)
    assert hstmap("manifest", "--verify", tmp_path / "m.csv", "-o", tmp_path / "v.parquet") == 0
    assert "1 found, 1 missing" in capsys.readouterr().out
    table = Manifest.read(str(tmp_path / "v.parquet")).table.to_pandas()
    assert list(table["use"]) == ["", "missing"]


def test_files_are_fetched_and_not_twice(images, tmp_path, capsys):
    to = tmp_path / "to"
    assert hstmap("fetch", images, "--to", to, "--dry-run") == 0
    assert "egress" in capsys.readouterr().out
    assert not to.exists()
    assert hstmap("fetch", images, "--to", to) == 0
    assert {path.name: path.read_bytes() for path in to.iterdir()} == {
        path.name: path.read_bytes() for path in images.iterdir()
    }
    capsys.readouterr()
    assert hstmap("fetch", images, "--to", to, "--always-md5", "--limit", 2) == 0
    assert "2 there already" in capsys.readouterr().out


def test_a_file_that_cannot_be_had_gives_status_one(images, tmp_path, capsys):
    assert hstmap("fetch", images, images / "igone1a1q_flt.fits", "--to", tmp_path / "to") == 1
    captured = capsys.readouterr()
    assert "1 missing" in captured.out
    assert "igone1a1q" in captured.err
    assert len(list((tmp_path / "to").iterdir())) == 3


def test_headers_are_told_with_the_keywords_asked_for(images, tmp_path, capsys):
    out = tmp_path / "info"
    options = ("--engine", "inprocess", "--keyword", "filter", "--keyword", "EXTNAME")
    assert hstmap("info", images, "-o", out, *options) == 0
    said = capsys.readouterr().out
    assert "3 read now" in said
    assert "HDUs      18; no error" in said
    assert f"pandas.read_parquet('{out}/info.parquet')" in said
    table = pd.read_parquet(out / "info.parquet")
    assert len(table) == 3 * 6
    assert set(table["EXTNAME"].dropna()) == {"SCI", "ERR", "DQ", "SAMP", "TIME"}
    assert set(table["FILTER"].dropna()) == {"F160W", "F125W"}
    assert hstmap("info", images, "-o", out, *options) == 0
    assert "0 read now" in capsys.readouterr().out


def test_workers_import_before_what_their_tasks_need_and_no_more(images, tmp_path, monkeypatch):
    made = []

    def watched(name, options, *further):
        made.append(options)
        return make_engine("inprocess", options, *further)

    monkeypatch.setattr(engine, "make_engine", watched)
    assert hstmap("info", images, "-o", tmp_path / "info") == 0
    assert hstmap("map", images, "-o", tmp_path / "out", "--limit", 1) == 0
    assert [tuple(options.preload) for options in made] == [(), BATCH_MODULES]
    for module in BATCH_MODULES:
        assert importlib.util.find_spec(module) is not None


def test_files_that_are_none_have_a_row_that_says_so(images, tmp_path, capsys):
    write_broken_files(images)
    assert hstmap("info", images, "-o", tmp_path / "info", "--engine", "inprocess") == 1
    table = pd.read_parquet(tmp_path / "info" / "info.parquet")
    assert table["file"].nunique() == 7
    assert (table["error"] != "").sum() == 3
    assert "3 rows tell of an error, in their column error" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["manifest", "--offline", "-o", "{tmp}/m.txt"], "end it in .parquet, .csv, .ecsv"),
        (["manifest", "--update", "a.csv", "--verify", "b.csv"], "two steps"),
        (["manifest", "--since", "yesterday"], "invalid fromisoformat value: 'yesterday'"),
        (["manifest", "--source", "listing", "--filter", "F160W"], "a listing shows names alone"),
        (["manifest", "--update", "{tmp}/none.parquet"], "none.parquet"),
        (["fetch", "{tmp}/x.fits"], "--to"),
        (["info", "{tmp}/none/*.fits"], "none"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(tmp_path, capsys, arguments, message):
    assert main([argument.format(tmp=tmp_path) for argument in arguments]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "error" in last
    assert message in last
