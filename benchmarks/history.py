"""What benchmarks gave over time: writes docs/benchmarks.md from the results that are kept.

Results are the files of ``python -m benchmarks NAME --json FILE``. ``--add`` puts such files into
benchmarks/results, under their date, version and machine; without it the page is made anew of what
is there. ``--check`` writes nothing, and fails if the page is another.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"
PLOT = ROOT / "docs" / "images" / "benchmarks.svg"

INTRODUCTION = """\
# Benchmarks

What `python -m benchmarks` measured, newest first. The figures are kept in `benchmarks/results`,
and this page and its picture are made of them by `python -m benchmarks history`: change them there.

Each figure is the median of its repeats, with the quartiles and their number where it has some. The
load is the mean number of processes that wanted the machine in the minute before the benchmark
began, over its cores: above some 0.2, other work shared it, and only ratios say something, of which
those by CPU time are steadier than those of the clock.
"""


@dataclass(frozen=True)
class Headline:
    """A figure that is followed over time.

    Attributes
    ----------
    benchmark : str
    label : str
    path : tuple of str
        Keys that lead to it in the figures: to a number, or to a median with its quartiles.
    unit : str
        Printed behind it; ``%`` multiplies by 100, ``ms`` by 1,000.
    least, most : float, optional
        What it is meant to be.
    """

    benchmark: str
    label: str
    path: tuple[str, ...]
    unit: str = ""
    least: float | None = None
    most: float | None = None

    @property
    def factor(self) -> float:
        """What the kept number is multiplied by."""
        return {"%": 100.0, "ms": 1000.0}.get(self.unit, 1.0)


_OF_PEERS = ("multiprocessing.Pool", "dask.bag, processes", "Lithops map", "function of 2018",
             "SExtractor", "photutils")  # fmt: skip
HEADLINES = (
    Headline("image", "time of an image, warm", ("image_s",), "ms"),
    Headline("image", "share of SEP's C code in it", ("sep_share",), "%", least=0.85),
    Headline("throughput", "from local files", ("local", "images_s"), "images/s"),
    Headline("throughput", "from the slow S3", ("s3", "images_s"), "images/s"),
    Headline("throughput", "local files over the bound", ("local", "of_bound"), "%", least=0.9),
    Headline("throughput", "the same by CPU time", ("local", "of_bound_cpu"), "%", least=0.9),
    Headline("throughput", "slow S3 over the bound", ("s3", "of_bound"), "%", least=0.85),
    Headline("throughput", "the same by CPU time", ("s3", "of_bound_cpu"), "%", least=0.85),
    Headline("throughput", "SEP and bare sockets over the bound", ("bound_s3", "of_bound"), "%"),
    Headline("throughput", "slow S3 over SEP and bare sockets", ("s3", "of_bound_s3"), "%"),
    *(
        Headline(
            "peers", f"{what} {name}", ("contestants", name, key), "times",
            least=5.0 if name == "function of 2018" else 1.0,
        )
        for name in _OF_PEERS
        for what, key in (
            ("faster than", "hstmap_is_faster_by"),
            ("less CPU time than", "hstmap_is_faster_by_cpu"),
        )
    ),
    Headline("peers", "memory of a worker", ("contestants", "hstmap", "worker_share_mb"), "MB"),
    Headline("peers", "peak RSS of a worker", ("contestants", "hstmap", "worker_mb"), "MB"),
    Headline("peers", "memory of all processes", ("contestants", "hstmap", "tree_mb"), "MB"),
    Headline("billed", "billed an image, at the best", ("least_gb_s",), "GB-s", most=0.30),
)  # fmt: skip


@dataclass(frozen=True)
class Result:
    """One run of one benchmark.

    Attributes
    ----------
    benchmark : str
    machine, date, versions : str
        As it printed them.
    load : float or None
        Processes that wanted the machine before, over its cores.
    note : str
        What must be said of it.
    figures : dict
    """

    benchmark: str
    machine: str
    date: str
    versions: str
    load: float | None
    note: str
    figures: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> Result:
        """Read a file that a benchmark kept.

        Raises
        ------
        ValueError
            If it is none.
        """
        try:
            record = json.loads(path.read_text())
            said = {name: record["machine"][name].split(maxsplit=1)[1] for name in _SAID}
            return cls(
                record["benchmark"], **said, load=record.get("load"), note=record.get("note", ""),
                figures=record["figures"],
            )  # fmt: skip
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path} is not what a benchmark wrote by --json: {error!r}"
            ) from error

    @property
    def version(self) -> str:
        """Of hstmap."""
        match = re.search(r"\bhstmap (\S+?)(,|$)", self.versions)
        return match[1] if match else "?"

    @property
    def file_name(self) -> str:
        """Name it by date, version, machine and benchmark."""
        machine = re.sub("[^a-z0-9]+", "-", self.machine.lower()).strip("-")
        return f"{self.date[:10]}-{self.version}-{machine}-{self.benchmark}.json"

    def value(self, headline: Headline) -> dict[str, float] | None:
        """Find a figure: its ``median`` and, where it has some, ``low``, ``high`` and ``n``."""
        found: Any = self.figures
        for key in headline.path:
            if not isinstance(found, dict) or key not in found:
                return None
            found = found[key]
        return found if isinstance(found, dict) else {"median": float(found)}


_SAID = ("machine", "date", "versions")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--add", nargs="*", type=Path, default=[], metavar="FILE")
    parser.add_argument("--note", default="", help="what must be said of the files that are added")
    parser.add_argument("--check", action="store_true", help="only say whether the page is right")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Add results, and write the page or check it."""
    for path in arguments.add:
        print(f"kept      {add(path, arguments.note)}")
    results = kept_results()
    if arguments.check:
        found = list(stale_files(results))
        for line in found:
            print(line)
        return {"failed": found} if found else {}
    PAGE.write_text(page(results))
    draw(results, PLOT)
    print(f"written   {PAGE}, {PLOT}: of {len(results)} results")
    return {"n_results": len(results)}


def add(path: Path, note: str = "", folder: Path = RESULTS) -> Path:
    """Keep a benchmark's file, in place of one of the same day, version and machine.

    Parameters
    ----------
    path : Path
    note : str
    folder : Path

    Returns
    -------
    Path
        Where it is now.
    """
    kept = folder / Result.read(path).file_name
    record = json.loads(path.read_text()) | ({"note": note} if note else {})
    folder.mkdir(exist_ok=True)
    kept.write_text(json.dumps(record, indent=2) + "\n")
    return kept


def kept_results(folder: Path = RESULTS) -> list[Result]:
    """Read all results, oldest first."""
    results = [Result.read(path) for path in sorted(folder.glob("*.json"))]
    return sorted(results, key=lambda result: result.date)


# -- the page ------------------------------------------------------------------------------------


def page(results: Sequence[Result]) -> str:
    """Write the page.

    Parameters
    ----------
    results : sequence of Result
        Oldest first.

    Returns
    -------
    str
        Markdown.
    """
    lines = [INTRODUCTION, "![The figures over time](images/benchmarks.svg)", ""]
    for benchmark in dict.fromkeys(headline.benchmark for headline in HEADLINES):
        mine = [result for result in reversed(results) if result.benchmark == benchmark]
        if mine:
            lines += [f"## {benchmark}", "", *_table(benchmark, mine), ""]
            if benchmark == "peers":
                lines += [*_peers(mine[0]), ""]
            lines += [*_circumstances(mine), ""]
    return "\n".join(lines).rstrip() + "\n"


def _table(benchmark: str, results: Sequence[Result]) -> Iterator[str]:
    """Yield a row a figure, and a column a result."""
    yield f"| | aim | {' | '.join(f'{each.date[:10]}, {each.version}' for each in results)} |"
    yield f"| --- | --- |{' --- |' * len(results)}"
    for headline in HEADLINES:
        values = [result.value(headline) for result in results]
        if headline.benchmark == benchmark and any(value is not None for value in values):
            cells = " | ".join(_cell(headline, value) for value in values)
            yield f"| {headline.label} | {_aim(headline)} | {cells} |"


def _number(headline: Headline, value: float) -> str:
    value *= headline.factor
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def _aim(headline: Headline) -> str:
    if headline.least is not None:
        return f"at least {_number(headline, headline.least)} {headline.unit}"
    if headline.most is not None:
        return f"at most {_number(headline, headline.most)} {headline.unit}"
    return ""


def _cell(headline: Headline, value: dict[str, float] | None) -> str:
    """Write a figure with its spread, and whether it misses its aim."""
    if value is None:
        return ""
    text = f"{_number(headline, value['median'])} {headline.unit}"
    if value.get("n", 1) > 1:
        low, high = (_number(headline, value[name]) for name in ("low", "high"))
        text += f" ({low} to {high}, n = {value['n']})"
    return f"{text}, **missed**" if misses(headline, value["median"]) else text


def misses(headline: Headline, value: float) -> bool:
    """Tell whether a figure is not what it is meant to be."""
    return bool(
        (headline.least is not None and value < headline.least)
        or (headline.most is not None and value > headline.most)
    )


_PEER_COLUMNS = (
    "images_s", "images_s_with_start", "cpu_ms_an_image", "tree_mb", "worker_share_mb", "worker_mb",
)  # fmt: skip


def _peers(result: Result) -> Iterator[str]:
    """Yield the newest comparison with all others in full."""
    figures = result.figures
    yield f"All of {result.date[:10]}, with {figures['n_workers']} workers, warm."
    yield "All processes are those of the client as well: hstmap's has Lithops loaded. What they"
    yield "share is counted once, in parts, but for the peak RSS, where it counts in full for each:"
    yield "hstmap's workers share what they import."
    yield ""
    yield (
        "| | images/s | start included | CPU, ms an image | all processes, MB | one worker, MB "
        "| its peak RSS, MB | its sources that hstmap has, and the other way | measures |"
    )
    yield f"|{' --- |' * 9}"
    for name, one in figures["contestants"].items():
        found = figures["agreement"][name]
        medians = [one[key]["median"] if key in one else None for key in _PEER_COLUMNS]
        speeds = " | ".join(f"{value:.1f}" for value in medians[:2])
        rest = " | ".join("" if value is None else f"{value:.0f}" for value in medians[2:])
        yield (
            f"| {name} | {speeds} | {rest} | {found['share_of_theirs']:.1%}, "
            f"{found['share_of_ours']:.1%} | {one['measures']} |"
        )


def _circumstances(results: Iterable[Result]) -> Iterator[str]:
    """Yield what each result was measured on."""
    for result in results:
        load = "not known" if result.load is None else f"{result.load:.1f} a core"
        note = f" {result.note}" if result.note else ""
        yield f"- {result.date}: {result.machine}; load before: {load}. {result.versions}.{note}"


# -- the picture ---------------------------------------------------------------------------------


def series(results: Iterable[Result]) -> dict[str, dict[str, list[tuple[str, float]]]]:
    """Collect what is drawn: by unit and label, the date and value of each result.

    Parameters
    ----------
    results : iterable of Result
        Oldest first.

    Returns
    -------
    dict of str to dict of str to list of (str, float)
    """
    found: dict[str, dict[str, list[tuple[str, float]]]] = {}
    for result in results:
        for headline in HEADLINES:
            value = result.value(headline)
            if headline.benchmark == result.benchmark and value is not None:
                label = f"{headline.benchmark}: {headline.label}"
                if " by CPU" in label:
                    label += f" ({headline.path[0]})"
                line = found.setdefault(headline.unit, {}).setdefault(label, [])
                line.append((result.date, value["median"] * headline.factor))
    return found


def digest(results: Iterable[Result]) -> str:
    """Name what is drawn, so that a picture of something else can be told."""
    return hashlib.sha256(json.dumps(series(results)).encode()).hexdigest()[:32]


def draw(results: Sequence[Result], path: Path) -> None:
    """Draw the figures over time, a panel a unit.

    Parameters
    ----------
    results : sequence of Result
    path : Path
        An SVG file.
    """
    import matplotlib as mpl
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, datestr2num
    from matplotlib.figure import Figure

    panels = series(results)
    days = [datestr2num(result.date) for result in results]
    with mpl.rc_context({"svg.hashsalt": "hstmap", "svg.fonttype": "none", "font.size": 8}):
        figure = Figure(figsize=(9, 2.6 * max(1, len(panels))), layout="constrained")
        for i, (unit, lines) in enumerate(panels.items(), start=1):
            axes = figure.add_subplot(len(panels), 1, i)
            axes.set_prop_cycle(color=mpl.colormaps["tab20"].colors)
            axes.set_xlim(min(days) - 1, max(days) + 1)
            axes.margins(y=0.1)
            for label, points in lines.items():
                axes.plot(
                    [datestr2num(date) for date, _ in points], [value for _, value in points],
                    "o-", markersize=4, label=label,
                )  # fmt: skip
            locator = AutoDateLocator()
            axes.xaxis.set_major_locator(locator)
            axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
            axes.set_ylabel(unit)
            axes.set_ylim(bottom=0)
            axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        made_of = f"made of results {digest(results)}"
        figure.savefig(path, metadata={"Date": None, "Creator": None, "Description": made_of})


def stale_files(results: Sequence[Result]) -> Iterator[str]:
    """Yield what is not as the results have it.

    Parameters
    ----------
    results : sequence of Result

    Yields
    ------
    str
    """
    what_to_do = "run python -m benchmarks history"
    if not PAGE.is_file() or PAGE.read_text() != page(results):
        yield f"{PAGE.relative_to(ROOT)} is not what the kept results make: {what_to_do}"
    if not PLOT.is_file() or digest(results) not in PLOT.read_text():
        yield f"{PLOT.relative_to(ROOT)} is not of the kept results: {what_to_do}"
