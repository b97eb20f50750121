"""Whether this tree is slower than the commit that it is based on, on this machine and now.

The package of the base commit is taken out of git into a folder of its own, and both trees map the
same simulated images with the same interpreter, in turns, each in processes of their own. What is
compared is CPU time: each turn is the least of a few maps, each pair of turns a ratio. It fails if
the median of the ratios is above 1.10 for sure: if the lower end of its confidence interval is.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.frames import lay_out, simulate_frames

ROOT = Path(__file__).resolve().parents[1]
#: A ratio above this is a failure.
MOST = 1.10
#: Of the median being below the lower bound, or above the upper one.
_DOUBT = 0.025
_PACKAGE = "hstmap"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--base", metavar="REV", help="commit to compare with (default: see below)")
    parser.add_argument("--repository", type=Path, default=ROOT, help="where git's history is")
    parser.add_argument("--pairs", type=int, default=8, help="pairs of turns of each process")
    parser.add_argument("--restarts", type=int, default=3, help="processes of each tree")
    parser.add_argument("--images", type=int, default=4, help="images a map")
    parser.epilog = (
        "Without --base it is HEAD if the package has changes that are not committed; on a branch "
        "where it left main; else the commit before."
    )


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Compare, print and return the figures; ``failed`` says why, if it did."""
    base = base_commit(arguments.repository, arguments.base)
    if base is None:
        print(f"skipped   {arguments.repository} has no commit to compare with")
        return {"skipped": True}
    plan = Plan(arguments.pairs, arguments.restarts)
    if arguments.short:
        plan = Plan(5, 2)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        check_out(arguments.repository, base, folder / "base")
        lay_out(simulate_frames(folder / "frames", 2), folder / "images", arguments.images)
        turns = compare_trees(folder / "base", ROOT, folder / "images", plan)
    figures = {"base": base, "n_images": arguments.images} | judged(turns)
    for line in report_lines(figures):
        print(line)
    return figures


# -- git -----------------------------------------------------------------------------------------


def base_commit(repository: Path, given: str | None = None) -> str | None:
    """Find the commit to compare with.

    Parameters
    ----------
    repository : Path
    given : str, optional
        What was asked for.

    Returns
    -------
    str or None
        Its name in hex, None if there is no such history.

    Raises
    ------
    SystemExit
        If there is no commit of the name that was given.
    """
    if given is not None:
        commit = _git(repository, "rev-parse", "--verify", "--quiet", f"{given}^{{commit}}")
        if commit is None:
            raise SystemExit(f"{repository} has no commit {given}")
        return commit
    head = _git(repository, "rev-parse", "--verify", "--quiet", "HEAD")
    if head is None or _git(repository, "status", "--porcelain", "--", _PACKAGE):
        return head
    fork = _git(repository, "merge-base", "main", "HEAD")
    if fork is not None and fork != head:
        return fork
    return _git(repository, "rev-parse", "--verify", "--quiet", "HEAD~1")


def check_out(repository: Path, commit: str, folder: Path) -> None:
    """Put the package of a commit into a folder; the repository stays as it is.

    Parameters
    ----------
    repository : Path
    commit : str
    folder : Path
        A new one.
    """
    command = ["git", "-C", str(repository), "archive", commit, "--", _PACKAGE]
    archive = subprocess.run(command, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")


def _git(repository: Path, *arguments: str) -> str | None:
    """Ask git; None if it has no answer."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(repository), *arguments], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:  # git is not installed
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


# -- turns ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """How often is measured.

    Attributes
    ----------
    n_pairs : int
        Pairs of turns of each pair of processes.
    n_restarts : int
        Pairs of processes: where a process' memory lies makes some percent.
    n_times : int
        Maps of a turn, of which the fastest counts.
    """

    n_pairs: int
    n_restarts: int = 1
    n_times: int = 2


@dataclass(frozen=True)
class Turn:
    """What one turn of both trees gave: seconds of CPU, and sources."""

    base_s: float
    head_s: float
    n_sources_base: int
    n_sources_head: int

    @property
    def ratio(self) -> float:
        """CPU time of the head over that of the base."""
        return self.head_s / self.base_s


def compare_trees(base: Path, head: Path, images: Path, plan: Plan) -> list[Turn]:
    """Let two trees map the same images in turns.

    Parameters
    ----------
    base, head : Path
        Folders with the package in them.
    images : Path
        Folder of images.
    plan : Plan

    Returns
    -------
    list of Turn
    """
    turns = []
    for _ in range(plan.n_restarts):
        with _probe(base, images) as first, _probe(head, images) as second:
            for number in range(plan.n_pairs):
                answers: dict[int, dict[str, Any]] = {}
                for side in (0, 1) if number % 2 == 0 else (1, 0):
                    answers[side] = _ask((first, second)[side], plan.n_times)
                turns.append(
                    Turn(
                        answers[0]["cpu_s"], answers[1]["cpu_s"],
                        answers[0]["n_sources"], answers[1]["n_sources"],
                    )
                )  # fmt: skip
    return turns


@contextlib.contextmanager
def _probe(tree: Path, images: Path) -> Iterator[subprocess.Popen[str]]:
    """Start one side."""
    command = [sys.executable, "-P", str(Path(__file__).with_name("compare_probe.py"))]
    environment = os.environ | {"PYTHONPATH": str(tree), "PYTHONHASHSEED": "0"}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [*command, str(tree), str(images)], stdin=pipe, stdout=pipe, text=True, env=environment
    ) as process:
        try:
            yield process
        finally:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()


def _ask(process: subprocess.Popen[str], n_times: int) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(f"{n_times}\n")
        process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"a side ended before its answer: {process.args!r} (see above)")
    answer: dict[str, Any] = json.loads(line)
    return answer


# -- judgement -----------------------------------------------------------------------------------


def median_bounds(values: Sequence[float]) -> tuple[float, float, float]:
    """Give the median and its confidence interval, which assumes no distribution.

    The number of values below the true median is binomial: the bounds are the values of those
    ranks that leave `_DOUBT` on either side (the sign test's interval).

    Parameters
    ----------
    values : sequence of float

    Returns
    -------
    low, median, high : float
        Infinite bounds where there are too few values for any.
    """
    ordered, n = sorted(values), len(values)
    middle = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    rank, doubt = 0, 0.5**n
    while doubt <= _DOUBT:
        rank += 1
        doubt += math.comb(n, rank) * 0.5**n
    if rank == 0:
        return -math.inf, middle, math.inf
    return ordered[rank - 1], middle, ordered[n - rank]


def judged(turns: Sequence[Turn]) -> dict[str, Any]:
    """Say what the turns show.

    Parameters
    ----------
    turns : sequence of Turn

    Returns
    -------
    dict
        With ``failed``, the reason, if the head is slower for sure.
    """
    low, median, high = median_bounds([turn.ratio for turn in turns])
    figures: dict[str, Any] = {
        "ratio": {"median": median, "low": low, "high": high, "n": len(turns)},
        "base_s": min(turn.base_s for turn in turns),
        "head_s": min(turn.head_s for turn in turns),
        "n_sources_base": turns[0].n_sources_base,
        "n_sources_head": turns[0].n_sources_head,
    }
    if low > MOST:
        figures["failed"] = (
            f"{median:.2f} times the CPU time of the base, {low:.2f} at the least; "
            f"up to {MOST:.2f} would pass"
        )
    return figures


def report_lines(figures: dict[str, Any]) -> list[str]:
    """Write the figures down.

    Parameters
    ----------
    figures : dict

    Returns
    -------
    list of str
    """
    ratio, n_images = figures["ratio"], figures["n_images"]
    base, head = figures["n_sources_base"], figures["n_sources_head"]
    answer = f"both found {head} sources" if base == head else (
        f"the base found {base} sources, this tree {head}: they do not do the same"
    )  # fmt: skip
    return [
        f"answer    {answer}",
        f"base      {figures['base'][:12]}: {figures['base_s'] / n_images * 1e3:.1f} ms of CPU an "
        "image, at the least",
        f"head      this tree: {figures['head_s'] / n_images * 1e3:.1f} ms",
        f"ratio     {ratio['median']:.3f}, median of {ratio['n']} pairs "
        f"(95 % sure: {ratio['low']:.3f} to {ratio['high']:.3f}); above {MOST:.2f} for sure fails",
        f"{'FAILED    ' + figures['failed'] if 'failed' in figures else 'passed'}",
    ]
