"""Lines that several commands end with."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from hstmap.wfc3.schema import FAILED_OUTCOMES, OUTCOMES

if TYPE_CHECKING:
    from hstmap.summary import Summary

__all__ = ["exit_status", "open_line", "outcomes_line", "summary_lines"]


def exit_status(outcomes: Mapping[str, int]) -> int:
    """Give 1 if an image that was asked for could not be done, else 0.

    Parameters
    ----------
    outcomes : mapping of str to int
        Number of images by outcome.

    Returns
    -------
    int
    """
    return int(any(outcomes.get(outcome) for outcome in FAILED_OUTCOMES))


def outcomes_line(outcomes: Mapping[str, int]) -> str:
    """Say how many images ended how: ``3 ok, 1 rejected``.

    Parameters
    ----------
    outcomes : mapping of str to int

    Returns
    -------
    str
    """
    return ", ".join(f"{outcomes[name]:,} {name}" for name in OUTCOMES if outcomes.get(name))


def summary_lines(summary: Summary) -> list[str]:
    """Report a summary.

    Parameters
    ----------
    summary : Summary

    Returns
    -------
    list of str
    """
    why = [
        f"{n:,} {outcome} ({reason})" if reason != outcome else f"{n:,} {outcome}"
        for (outcome, reason), n in sorted(summary.reasons.items(), key=lambda item: -item[1])
    ]
    files = f" in {summary.n_files:,} files" if summary.n_files > 1 else ""
    return [
        f"images    {summary.n_images:,}: {outcomes_line(summary.outcomes)}",
        *_wrapped("reasons   ", why),
        f"sources   {summary.n_sources:,}{files}",
        f"results   {summary.sources_url}",
        f"          {summary.images_url}",
        open_line(summary.sources_url),
    ]


def open_line(url: str) -> str:
    """Say how to look at a table.

    Parameters
    ----------
    url : str
        Of a Parquet file, or of a folder of them.

    Returns
    -------
    str
    """
    return f'open with python -c "import pandas; print(pandas.read_parquet({url!r}))"'


def _wrapped(title: str, items: Iterable[str]) -> list[str]:
    """List items after a title, in lines that break between them only."""
    # textwrap takes U+00A0 for no place to break.
    text = ", ".join(item.replace(" ", "\u00a0") for item in items)
    wrapper = textwrap.TextWrapper(
        initial_indent=title, subsequent_indent=" " * len(title), break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip
    lines = wrapper.wrap(text)
    return [line.replace("\u00a0", " ") for line in lines]
