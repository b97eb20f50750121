"""The comparison with the base commit: a slow-down fails, equal code passes."""

from __future__ import annotations

import argparse
import math
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import benchmarks.__main__ as entry
from benchmarks import compare
from benchmarks.compare import Plan, Turn
from benchmarks.frames import lay_out, simulate_frames

REPOSITORY = Path(__file__).resolve().parents[2]
#: Does the extraction several times: about twice the time, and the same sources.
SLOW_DOWN = """

_extract_once = extract


def extract(detection: Detection, parameters: DetectionParameters) -> Detection:
    for _ in range(8):
        _extract_once(detection, parameters)
    return _extract_once(detection, parameters)
"""


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    told = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return told.stdout.strip()


# -- whole, on real trees ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package, which nobody else edits meanwhile."""
    folder = tmp_path_factory.mktemp("tree")
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / "hstmap", folder / "hstmap", ignore=ignore)
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    lay_out(simulate_frames(folder / "frames", 1, "sparse"), folder / "images", 1)
    return folder / "images"


def test_equal_trees_pass(tree: Path, images: Path, tmp_path: Path) -> None:
    shutil.copytree(tree, tmp_path / "same")
    figures = compare.judged(compare.compare_trees(tree, tmp_path / "same", images, Plan(6)))
    assert "failed" not in figures
    assert figures["ratio"]["low"] < 1.1
    assert figures["n_sources_base"] == figures["n_sources_head"] > 100


def test_a_slow_down_fails(tree: Path, images: Path, tmp_path: Path) -> None:
    shutil.copytree(tree, tmp_path / "slow")
    with (tmp_path / "slow" / "hstmap" / "wfc3" / "detect.py").open("a") as module:
        module.write(SLOW_DOWN)
    figures = compare.judged(compare.compare_trees(tree, tmp_path / "slow", images, Plan(6)))
    assert "times the CPU time of the base" in figures["failed"]
    assert figures["n_sources_base"] == figures["n_sources_head"]


def test_a_side_that_breaks_stops_the_comparison(
    tree: Path, images: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tree, tmp_path / "broken")
    (tmp_path / "broken" / "hstmap" / "pipeline.py").write_text("raise ImportError('broken')\n")
    with pytest.raises(RuntimeError, match="ended before its answer"):
        compare.compare_trees(tree, tmp_path / "broken", images, Plan(1))
    assert "ImportError: broken" in capfd.readouterr().err


def test_a_tree_without_the_package_is_not_measured_by_another(
    images: Path, tree: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RuntimeError, match="ended before its answer"):
        compare.compare_trees(tmp_path, tree, images, Plan(1))
    assert "hstmap" in capfd.readouterr().err


# -- what to compare with ------------------------------------------------------------------------


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two commits on main, of which the second changed the package."""
    folder = tmp_path / "repository"
    (folder / "hstmap").mkdir(parents=True)
    git(folder, "init", "--quiet", "--initial-branch", "main")
    for text in ("one", "two"):
        (folder / "hstmap" / "a.py").write_text(text)
        (folder / "other").write_text(text)
        git(folder, "add", ".")
        git(folder, "commit", "--quiet", "-m", text)
    return folder


def test_on_main_it_is_the_commit_before(repository: Path) -> None:
    assert compare.base_commit(repository) == git(repository, "rev-parse", "HEAD~1")


def test_with_changes_that_are_not_committed_it_is_head(repository: Path) -> None:
    head = git(repository, "rev-parse", "HEAD")
    (repository / "other").write_text("three")
    assert compare.base_commit(repository) != head
    (repository / "hstmap" / "new.py").write_text("three")
    assert compare.base_commit(repository) == head


def test_on_a_branch_it_is_where_it_left_main(repository: Path) -> None:
    main = git(repository, "rev-parse", "HEAD")
    git(repository, "checkout", "--quiet", "-b", "branch")
    for text in ("three", "four"):
        (repository / "hstmap" / "a.py").write_text(text)
        git(repository, "commit", "--quiet", "-a", "-m", text)
    assert compare.base_commit(repository) == main


def test_a_commit_can_be_given(repository: Path) -> None:
    first = git(repository, "rev-parse", "HEAD~1")
    assert compare.base_commit(repository, "HEAD~1") == first
    assert compare.base_commit(repository, first[:10]) == first
    with pytest.raises(SystemExit, match="no commit nonsense"):
        compare.base_commit(repository, "nonsense")


def test_the_first_commit_has_none_before_it(repository: Path) -> None:
    git(repository, "checkout", "--quiet", "--orphan", "afresh")
    git(repository, "branch", "--quiet", "-D", "main")
    git(repository, "commit", "--quiet", "-m", "first")
    assert compare.base_commit(repository) is None


def test_sources_without_history_have_none(tmp_path: Path) -> None:
    assert compare.base_commit(tmp_path) is None
    assert compare.base_commit(tmp_path / "nowhere") is None


def test_a_machine_without_git_has_none(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(repository))
    assert compare.base_commit(repository) is None


def test_only_the_package_of_the_commit_is_taken_out(repository: Path, tmp_path: Path) -> None:
    before = git(repository, "status", "--porcelain"), git(repository, "worktree", "list")
    compare.check_out(repository, "HEAD~1", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").rglob("*")] == ["hstmap", "a.py"]
    assert (tmp_path / "out" / "hstmap" / "a.py").read_text() == "one"
    assert (git(repository, "status", "--porcelain"), git(repository, "worktree", "list")) == before


def test_no_history_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main(["compare", "--short", "--repository", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"skipped   {tmp_path} has no commit to compare with"
    )


# -- judgement -----------------------------------------------------------------------------------


def turns(ratios: list[float]) -> list[Turn]:
    return [Turn(2.0, 2.0 * ratio, 10, 10) for ratio in ratios]


@pytest.mark.parametrize(
    ("ratios", "fails"),
    [
        ([1.0] * 10, False),
        ([1.3] * 10, True),
        ([1.09] * 10, False),
        ([1.11] * 10, True),
        # Slower by 20 % as a median, but not for sure.
        ([0.9, 0.95, 1.0, 1.05, 1.15, 1.25, 1.3, 1.35, 1.4, 1.5], False),
        # Two bad turns are the machine's.
        ([1.0] * 8 + [3.0, 5.0], False),
        ([1.3] * 9 + [0.9], True),
        # Too few to be sure of anything.
        ([2.0] * 5, False),
        ([2.0] * 6, True),
    ],
)
def test_slower_for_sure_fails(ratios: list[float], fails: bool) -> None:
    assert ("failed" in compare.judged(turns(ratios))) == fails


@pytest.mark.parametrize(
    ("n", "rank"),
    # Ranks of the interval at 95 %: Conover, Practical Nonparametric Statistics, table A3.
    [(6, 1), (8, 1), (9, 2), (10, 2), (12, 3), (15, 4), (20, 6), (25, 8)],
)
def test_the_interval_of_the_median_is_the_sign_tests(n: int, rank: int) -> None:
    low, median, high = compare.median_bounds([float(value) for value in range(1, n + 1)][::-1])
    assert (low, median, high) == (rank, (n + 1) / 2, n + 1 - rank)


def test_few_values_have_no_interval() -> None:
    assert compare.median_bounds([1.0, 2.0]) == (-math.inf, 1.5, math.inf)


def test_the_interval_holds_the_true_median_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    n_held = 0
    for values in random.lognormal(0.0, 0.5, (1000, 12)):
        low, _, high = compare.median_bounds(list(values))
        n_held += low <= 1.0 <= high
    assert n_held >= 950


def test_what_is_said_of_different_answers_and_failures() -> None:
    judged = compare.judged([Turn(1.0, 2.0, 10, 11)] * 8)
    lines = compare.report_lines({"base": "0123456789abcdef", "n_images": 4} | judged)
    assert lines[0] == "answer    the base found 10 sources, this tree 11: they do not do the same"
    assert lines[1].startswith("base      0123456789ab: 250.0 ms")
    assert lines[-1].startswith("FAILED    2.00 times")


def test_a_failure_is_the_exit_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for figures, status in (({"failed": "slow"}, 1), ({}, 0)):
        monkeypatch.setattr(compare, "run", lambda _: figures)  # noqa: B023
        assert entry.main(["compare", "--json", str(tmp_path / "x.json")]) == status
    assert capsys.readouterr().out.count("machine ") == 2


def test_the_short_form_measures_this_tree(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], repository: Path
) -> None:
    def compare_trees(base: Path, head: Path, images: Path, plan: Plan) -> list[Turn]:
        assert (base / "hstmap" / "a.py").read_text() == "one"
        assert head == REPOSITORY
        assert len(list(images.rglob("*_flt.fits"))) == 2
        return turns([1.0] * plan.n_pairs * plan.n_restarts)

    monkeypatch.setattr(compare, "compare_trees", compare_trees)
    parser = argparse.ArgumentParser()
    compare.add_arguments(parser)
    arguments = parser.parse_args(["--repository", str(repository), "--images", "2"])
    arguments.short = True
    figures = compare.run(arguments)
    assert figures["ratio"] == {"median": 1.0, "low": 1.0, "high": 1.0, "n": 10}
    assert "passed" in capsys.readouterr().out
