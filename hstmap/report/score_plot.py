"""A score as a picture."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from hstmap.wfc3.score import wilson_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hstmap.wfc3.score import Score, ScoreBin

__all__ = ["draw_score"]

_FIGURE_INCHES: Final = (14.0, 8.0)
_BLUE: Final = "#0b6fb8"
_ORANGE: Final = "#d9680f"
_GREY: Final = "#777777"
#: Pulls beyond are counted in the outermost bins.
_PULL_RANGE: Final = 6.0


def draw_score(score: Score, *, title: str) -> Figure:
    """Draw what a catalogue has, and how well it measures.

    Parameters
    ----------
    score : Score
    title : str
        Above the picture.

    Returns
    -------
    matplotlib.figure.Figure
        Six panels: completeness and reliability by signal to noise and by magnitude, differences
        of magnitudes and of positions, pulls by signal to noise and their distribution.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=_FIGURE_INCHES, layout="constrained")
    axes = figure.subplots(2, 3)
    _draw_shares(axes[0, 0], score.by_snr, "signal to noise", logarithmic=True)
    _draw_shares(axes[0, 1], score.by_magnitude, "magnitude", logarithmic=False)
    _draw_magnitudes(axes[0, 2], score.by_magnitude)
    _draw_distances(axes[1, 0], score)
    _draw_pulls_by_brightness(axes[1, 1], score)
    _draw_pulls(axes[1, 2], score)
    figure.suptitle(title, fontsize=12)
    return figure


def _middle(each: ScoreBin, *, logarithmic: bool) -> float:
    return math.sqrt(each.low * each.high) if logarithmic else (each.low + each.high) / 2


def _draw_shares(axes: Any, bins: tuple[ScoreBin, ...], label: str, *, logarithmic: bool) -> None:
    """Draw completeness and reliability with their 68 % intervals."""
    for name, counts, colour, marker in (
        ("completeness", [(each.n_recovered, each.n_reference) for each in bins], _BLUE, "o"),
        ("reliability", [(each.n_real, each.n_found) for each in bins], _ORANGE, "s"),
    ):
        points = [
            (_middle(each, logarithmic=logarithmic), n_good / n, *wilson_interval(n_good, n))
            for each, (n_good, n) in zip(bins, counts, strict=True)
            if n
        ]
        if not points:
            continue
        x, share, low, high = np.array(points).T
        # Where all or none are good, the interval does not hold the share by rounding.
        bars = np.maximum([share - low, high - share], 0.0)
        axes.errorbar(x, share, bars, color=colour, marker=marker, ms=4, lw=1.2, label=name)
    if logarithmic and bins:
        axes.set_xscale("log")
    axes.axhline(1.0, color=_GREY, lw=0.6)
    axes.set_ylim(-0.03, 1.06)
    axes.set_xlabel(label)
    axes.set_ylabel("share")
    if bins:
        axes.legend(loc="lower center", fontsize=9)
    else:
        _say_nothing(axes)


def _draw_magnitudes(axes: Any, bins: tuple[ScoreBin, ...]) -> None:
    measured = [each for each in bins if each.magnitude.n]
    _draw_bias(
        axes,
        [_middle(each, logarithmic=False) for each in measured],
        [each.magnitude.bias for each in measured],
        [each.magnitude.scatter for each in measured],
    )
    axes.set_xlabel("magnitude of the reference")
    axes.set_ylabel("catalogue minus reference (mag)")


def _draw_bias(axes: Any, x: list[float], bias: list[float], scatter: list[float]) -> None:
    """Draw medians, and the scatter as bars."""
    if x:
        axes.errorbar(x, bias, scatter, color=_BLUE, marker="o", ms=4, lw=1.2, capsize=2)
    else:
        _say_nothing(axes)
    axes.axhline(0.0, color=_GREY, lw=0.6)


def _by_brightness(score: Score) -> tuple[tuple[ScoreBin, ...], bool, str]:
    """Choose bins with pairs: of signal to noise (drawn by its logarithm), else of magnitudes."""
    bins = tuple(each for each in score.by_snr if not math.isnan(each.distance))
    if bins:
        return bins, True, "signal to noise of the reference"
    bins = tuple(each for each in score.by_magnitude if not math.isnan(each.distance))
    return bins, False, "magnitude of the reference"


def _draw_distances(axes: Any, score: Score) -> None:
    bins, logarithmic, label = _by_brightness(score)
    if bins:
        axes.plot(
            [_middle(each, logarithmic=logarithmic) for each in bins],
            [each.distance for each in bins],
            color=_BLUE, marker="o", ms=4, lw=1.2,
        )  # fmt: skip
        axes.set_xscale("log" if logarithmic else "linear")
        axes.set_yscale("log")
    else:
        _say_nothing(axes)
    axes.set_xlabel(label)
    axes.set_ylabel(f"median distance ({score.unit})")


def _draw_pulls_by_brightness(axes: Any, score: Score) -> None:
    bins, logarithmic, label = _by_brightness(score)
    measured = [each for each in bins if each.pull.n]
    x = [_middle(each, logarithmic=logarithmic) for each in measured]
    bias, scatter = (
        [getattr(each.pull, name) for each in measured] for name in ("bias", "scatter")
    )
    _draw_bias(axes, x, bias, scatter)
    if measured:
        axes.set_xscale("log" if logarithmic else "linear")
        axes.set_ylim(-_PULL_RANGE, _PULL_RANGE)
    for value in (-1.0, 1.0):
        axes.axhline(value, color=_GREY, lw=0.6, ls=":")
    axes.set_xlabel(label)
    axes.set_ylabel("pull: median and scatter")


def _draw_pulls(axes: Any, score: Score) -> None:
    """Draw how pulls are distributed, beside the normal distribution."""
    pull = score.total.pull
    if not pull.n:
        _say_nothing(axes)
        return
    edges = np.linspace(-_PULL_RANGE, _PULL_RANGE, 49)
    axes.hist(
        np.clip(score.pulls, -_PULL_RANGE, _PULL_RANGE), edges, density=True, color=_BLUE, alpha=0.5
    )
    x = np.linspace(-_PULL_RANGE, _PULL_RANGE, 200)
    axes.plot(x, np.exp(-0.5 * x**2) / math.sqrt(2 * math.pi), color=_GREY, lw=1.2, label="normal")
    axes.set_xlabel(f"pull (beyond {_PULL_RANGE:g}: in the outermost bins)")
    axes.set_ylabel("density")
    axes.set_title(
        f"median {pull.bias:+.2f}, scatter {pull.scatter:.2f}, n = {pull.n:,}", fontsize=9
    )
    axes.legend(fontsize=9)


def _say_nothing(axes: Any) -> None:
    axes.text(0.5, 0.5, "nothing to compare", ha="center", transform=axes.transAxes, color=_GREY)
