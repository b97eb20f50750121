"""Which names someone may have meant."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches
from typing import Final

__all__ = ["named_near"]

_N_NAMED: Final = 5


def named_near(name: str, known: Collection[str]) -> str:
    """List names that are like one, or else some of those that there are.

    Parameters
    ----------
    name : str
        That there is not.
    known : collection of str
        Those that there are.

    Returns
    -------
    str
        At most five of them and whether there are others, such as ``"a, b and others"``.
    """
    lower = {each.lower(): each for each in known}
    near = [lower[each] for each in get_close_matches(name.lower(), lower, n=_N_NAMED)]
    shown = near or sorted(known)[:_N_NAMED]
    text = ", ".join(shown) or "none"
    return f"{text} and others" if len(known) > len(shown) else text
