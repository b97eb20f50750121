"""Kept results become a page and a picture, and the page says what was missed and on what."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

import benchmarks.__main__ as entry
from benchmarks import history
from benchmarks.history import HEADLINES, Headline, Result

REPOSITORY = Path(__file__).resolve().parents[2]
IMAGE = {"image_s": 0.0731, "sep_share": 0.805}
SPREAD = {"median": 0.91, "low": 0.88, "high": 0.93, "n": 7}


def record(benchmark: str, figures: dict, date: str = "2026-11-23T10:00:00+00:00") -> dict:
    machine = {
        "machine": "machine   Some(R) CPU @ 3 GHz, 2 cores, Linux",
        "date": f"date      {date}",
        "versions": "versions  Python 3.11.7, hstmap 0.1.0, sep 1.4.1",
    }
    return {"benchmark": benchmark, "machine": machine, "load": 0.75, "figures": figures}


def write(folder: Path, name: str, content: dict) -> Path:
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def results(tmp_path: Path) -> list[Result]:
    """Two days of one benchmark, and one of another."""
    folder = tmp_path / "results"
    folder.mkdir()
    write(folder, "b", record("image", IMAGE | {"sep_share": 0.9}, "2026-11-24T10:00:00+00:00"))
    write(folder, "c", record("image", IMAGE))
    write(folder, "a", record("throughput", {"local": {"of_bound": SPREAD}}) | {"note": "Noisy."})
    return history.kept_results(folder)


# -- keeping -------------------------------------------------------------------------------------


def test_a_result_is_kept_by_date_version_machine_and_benchmark(tmp_path: Path) -> None:
    made = write(tmp_path, "new", record("image", IMAGE))
    kept = history.add(made, "Other work shared it.", tmp_path / "results")
    assert kept.name == "2026-11-23-0.1.0-some-r-cpu-3-ghz-2-cores-linux-image.json"
    result = Result.read(kept)
    assert (result.benchmark, result.version, result.load) == ("image", "0.1.0", 0.75)
    assert (result.note, result.figures) == ("Other work shared it.", IMAGE)
    history.add(write(tmp_path, "newer", record("image", {"image_s": 1.0})), "", kept.parent)
    assert [each.figures for each in history.kept_results(kept.parent)] == [{"image_s": 1.0}]


def test_results_come_by_date(results: list[Result]) -> None:
    assert [result.date[:10] for result in results] == ["2026-11-23", "2026-11-23", "2026-11-24"]


@pytest.mark.parametrize(
    "content", ["", "[]", '{"benchmark": "image"}', '{"machine": {"machine": "", "date": ""}}']
)
def test_what_no_benchmark_wrote_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(ValueError, match="is not what a benchmark wrote"):
        Result.read(tmp_path / "x.json")


# -- figures -------------------------------------------------------------------------------------


def test_figures_are_found_with_their_spread_or_not_at_all(results: list[Result]) -> None:
    by_label = {headline.label: headline for headline in HEADLINES}
    (throughput,) = (each for each in results if each.benchmark == "throughput")
    assert throughput.value(by_label["local files over the bound"]) == SPREAD
    assert throughput.value(by_label["slow S3 over the bound"]) is None
    assert results[-1].value(by_label["time of an image, warm"]) == {"median": 0.0731}


@pytest.mark.parametrize(
    ("least", "most", "value", "missed"),
    [
        (0.9, None, 0.89, True),
        (0.9, None, 0.9, False),
        (None, 0.3, 0.31, True),
        (None, 0.3, 0.3, False),
        (None, None, 5.0, False),
    ],
)
def test_an_aim_is_missed_or_not(
    least: float | None, most: float | None, value: float, missed: bool
) -> None:
    assert history.misses(Headline("x", "x", ("x",), least=least, most=most), value) == missed


def test_every_headline_is_one_of_a_benchmark_that_there_is() -> None:
    assert {headline.benchmark for headline in HEADLINES} <= set(entry._benchmarks())
    paths = [(headline.benchmark, headline.path) for headline in HEADLINES]
    assert len(set(paths)) == len(paths)


# -- the page ------------------------------------------------------------------------------------


def test_the_page_says_figures_aims_and_circumstances(results: list[Result]) -> None:
    page = history.page(results)
    assert "| | aim | 2026-11-24, 0.1.0 | 2026-11-23, 0.1.0 |" in page
    assert "| time of an image, warm |  | 73.1 ms | 73.1 ms |" in page
    assert "| share of SEP's C code in it | at least 85.0 % | 90.0 % | 80.5 %, **missed** |" in page
    assert "| local files over the bound | at least 90.0 % | 91.0 % (88.0 to 93.0, n = 7) |" in page
    assert "Some(R) CPU @ 3 GHz, 2 cores, Linux; load before: 0.8 a core." in page
    assert page.count("Noisy.") == 1
    assert "slow S3" not in page
    assert "## peers" not in page


def test_peers_are_shown_in_full() -> None:
    def spread(value: float) -> dict[str, float]:
        return {"median": value, "low": value, "high": value, "n": 3}

    keys = (*history._PEER_COLUMNS, "hstmap_is_faster_by", "hstmap_is_faster_by_cpu")
    one = dict.fromkeys(keys, spread(2.0))
    figures = {
        "n_workers": 2,
        "contestants": {"photutils": one | {"measures": "less"}},
        "agreement": {"photutils": {"share_of_ours": 0.98, "share_of_theirs": 0.87}},
    }
    result = Result("peers", "M", "2026-11-23", "hstmap 1", None, "", figures)
    page = history.page([result])
    assert "| photutils | 2.0 | 2.0 | 2 | 2 | 2 | 2 | 87.0%, 98.0% | less |" in page
    del one["worker_share_mb"]  # as in results of earlier versions
    figures["contestants"]["photutils"] = one | {"measures": "less"}
    assert "| photutils | 2.0 | 2.0 | 2 | 2 |  | 2 | 87.0%, 98.0% | less |" in history.page(
        [result]
    )
    assert (
        "| faster than photutils | at least 1.00 times | 2.00 times (2.00 to 2.00, n = 3) |" in page
    )
    assert "| less CPU time than photutils | at least 1.00 times | 2.00 times" in page
    assert "load before: not known" in page


def test_no_results_make_a_page_as_well() -> None:
    assert history.page([]).startswith("# Benchmarks\n")


# -- the picture ---------------------------------------------------------------------------------


def test_the_picture_has_a_panel_a_unit_and_a_line_a_figure(
    results: list[Result], tmp_path: Path
) -> None:
    assert history.series(results) == {
        "%": {
            "throughput: local files over the bound": [("2026-11-23T10:00:00+00:00", 91.0)],
            "image: share of SEP's C code in it": [
                ("2026-11-23T10:00:00+00:00", 80.5), ("2026-11-24T10:00:00+00:00", 90.0),
            ],
        },
        "ms": {
            "image: time of an image, warm": [
                ("2026-11-23T10:00:00+00:00", 73.1), ("2026-11-24T10:00:00+00:00", 73.1),
            ]
        },
    }  # fmt: skip
    history.draw(results, tmp_path / "images" / "plot.svg")
    drawn = (tmp_path / "images" / "plot.svg").read_text()
    ElementTree.fromstring(drawn)
    assert history.digest(results) in drawn
    for text in ("throughput: local files over the bound", "image: time of an image, warm"):
        assert text in drawn


def test_a_picture_of_the_same_is_the_same(results: list[Result], tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        history.draw(results, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert history.digest(results) != history.digest(results[1:])


# -- the command ---------------------------------------------------------------------------------


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The command works on a project of its own."""
    for name, path in {
        "ROOT": tmp_path,
        "RESULTS": tmp_path / "kept",
        "PAGE": tmp_path / "benchmarks.md",
        "PLOT": tmp_path / "benchmarks.svg",
    }.items():
        monkeypatch.setattr(history, name, path)
    monkeypatch.setattr(history, "kept_results", lambda: _kept_results(tmp_path / "kept"))
    monkeypatch.setattr(history, "add", lambda path, note: _add(path, note, tmp_path / "kept"))
    return tmp_path


_kept_results, _add = history.kept_results, history.add


def test_the_command_adds_writes_and_checks(
    places: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = write(places, "new", record("image", IMAGE))
    assert entry.main(["history", "--check"]) == 1
    assert "benchmarks.md is not what the kept results make" in capsys.readouterr().out
    assert entry.main(["history", "--add", str(made), "--note", "Quiet."]) == 0
    assert "Quiet." in (places / "benchmarks.md").read_text()
    assert entry.main(["history", "--check"]) == 0
    with (places / "benchmarks.md").open("a") as page:
        page.write("by hand")
    assert entry.main(["history", "--check"]) == 1
    assert entry.main(["history"]) == 0
    (places / "kept" / "second.json").write_text(
        json.dumps(record("image", IMAGE, "2026-12-01T00:00:00+00:00"))
    )
    assert len(list(history.stale_files(history.kept_results()))) == 2


def test_the_project_s_own_page_is_made_of_its_results() -> None:
    assert list(history.stale_files(history.kept_results())) == []


def test_a_benchmark_keeps_its_figures_with_the_load(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(history, "run", lambda _: {"n_results": 3})
    assert entry.main(["history", "--json", str(tmp_path / "x.json")]) == 0
    result = Result.read(tmp_path / "x.json")
    assert result.figures == {"n_results": 3}
    assert result.load is not None
    assert result.load >= 0


def test_the_arguments_have_defaults() -> None:
    parser = argparse.ArgumentParser()
    history.add_arguments(parser)
    assert vars(parser.parse_args([])) == {"add": [], "note": "", "check": False}
