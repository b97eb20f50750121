"""The cards of one FITS header, parsed when they are looked up.

astropy.io.fits reads any card that was ever written, and takes 2 ms for the hundred that an image
needs. The archive's are of one form (FITS standard 4.0, section 4.2: a logical, an integer, a real
number, or a string without quotes in it, then a comment), which a regular expression reads in a
microsecond. All others are left to astropy.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from astropy.io import fits

__all__ = ["CARD_NBYTES", "Cards", "astropy_header"]

CARD_NBYTES: Final = 80
_KEYWORD_NBYTES: Final = 8
# What follows the keyword. Left to astropy: strings with quotes or nothing in them; numbers with
# zeros before them, or with an exponent but no point or a D for an E; complex ones; no value.
_PLAIN_VALUE: Final = re.compile(
    rb"= +(?:'([ -&(-~]+)'"
    rb"|([TF])"
    rb"|([+-]?(?:0|[1-9]\d*))"
    rb"|([+-]?(?:(?:0|[1-9]\d*)\.\d*|\.\d+)(?:E[+-]?\d+)?)"
    rb") *(?:/[ -~]*)?"
)
_STRING, _LOGICAL, _INTEGER = 1, 2, 3


class Cards(Mapping[str, Any]):
    """Values by keyword, as an `astropy.io.fits.Header` of the same cards gives them.

    Parameters
    ----------
    cards : sequence of bytes, or dict of str to bytes
        80 bytes each. Of several with one keyword the first counts, as with astropy. A dict has
        them by their keywords.
    """

    def __init__(self, cards: Sequence[bytes] | dict[str, bytes]) -> None:
        self._cards: dict[str, bytes] = {}
        if isinstance(cards, dict):
            self._cards = cards
        else:
            for card in cards:
                self._cards.setdefault(_name(card[:_KEYWORD_NBYTES]), card)
        self._values: dict[str, Any] = {}

    def __getitem__(self, keyword: str) -> Any:
        if keyword not in self._values:
            self._values[keyword] = _value(keyword, self._cards[keyword])
        return self._values[keyword]

    def __contains__(self, keyword: object) -> bool:
        return keyword in self._cards

    def get(self, keyword: str, default: Any = None) -> Any:
        """Return a value, or `default`; most that are asked for in this way are not there."""
        try:
            return self[keyword] if keyword in self._cards else default
        except KeyError:  # of astropy, which can find another keyword in an odd card
            return default

    def __iter__(self) -> Iterator[str]:
        return iter(self._cards)

    def __len__(self) -> int:
        return len(self._cards)

    def select(self, keywords: Sequence[str]) -> Cards:
        """Return some of the cards, in the order given."""
        selected = Cards({keyword: self._cards[keyword] for keyword in keywords})
        selected._values = self._values  # what is parsed need not be parsed again
        return selected

    def to_astropy(self) -> Any:
        """Return what astropy makes of them, an `astropy.io.fits.Header`."""
        return fits.Header.fromstring(b"".join(self._cards.values()))


def _value(keyword: str, card: bytes) -> Any:
    match = _PLAIN_VALUE.fullmatch(card, _KEYWORD_NBYTES)
    if match is None:
        return fits.Header.fromstring(card)[keyword]
    kind = match.lastindex
    text = match[kind].decode("ascii")  # type: ignore[index]  # one of the groups has matched
    if kind == _STRING:
        return text.rstrip()
    if kind == _LOGICAL:
        return text == "T"
    return int(text) if kind == _INTEGER else float(text)


@functools.cache
def _name(keyword: bytes) -> str:
    return keyword.rstrip().decode("ascii")


def astropy_header(header: Cards | Any) -> Any:
    """Return an `astropy.io.fits.Header`, whichever of the two a header is."""
    return header.to_astropy() if isinstance(header, Cards) else header
