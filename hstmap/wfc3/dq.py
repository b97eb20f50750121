"""The data quality bits of WFC3/IR, and which of them hide a pixel.

Each pixel of the DQ plane holds a sum of bits. This module says what each bit means, whether a
pixel that carries it is left out by default, and why; and it reads the ways in which people
write down a set of bits.

The meanings are those of the WFC3 Data Handbook, section 2.2.3 "Contents of Individual Arrays"
(https://hst-docs.stsci.edu/wfc3dhb/chapter-2-wfc3-data-structure/2-2-wfc3-file-structure), and of
calwf3 itself: ``wf3dq.h`` names the bits, ``cridcalc.c`` says which of them reach an FLT
(https://github.com/spacetelescope/hstcal, folder ``pkg/wfc3``).
"""

from __future__ import annotations

from dataclasses import dataclass

from hstmap.errors import UsageError

__all__ = [
    "ALL_BITS",
    "DEFAULT_GOOD_BITS",
    "DEFAULT_MASK_BITS",
    "DQ_BITS",
    "DqBit",
    "describe_bits",
    "mask_bits_from_good",
    "parse_bits",
]


@dataclass(frozen=True)
class DqBit:
    """One bit of the DQ plane.

    Parameters
    ----------
    value : int
        The bit, a power of two.
    name : str
        A short word for it.
    meaning : str
        What calwf3 or AstroDrizzle says with it.
    masked : bool
        Whether a pixel that carries it is left out by default.
    why : str
        Why it is left out, or why not.
    """

    value: int
    name: str
    meaning: str
    masked: bool
    why: str


DQ_BITS: tuple[DqBit, ...] = (
    DqBit(1, "decoding", "Reed-Solomon decoding error", True, "the value is not what was sent"),
    DqBit(2, "fill", "data lost, replaced by a fill value", True, "nothing was measured"),
    DqBit(4, "bad_detector", "bad detector pixel", True, "dead, or otherwise never of use"),
    DqBit(
        8,
        "bad_zero_read",
        "deviant zero read (bias)",
        True,
        "the ramp starts at a wrong level, so the rate that is fitted to it is wrong",
    ),
    DqBit(
        16,
        "hot",
        "hot: a dark current far above the other pixels'",
        True,
        "a single frame cannot tell it from a faint star; only dithers can",
    ),
    DqBit(
        32,
        "unstable",
        "unstable response, or more jumps up the ramp than calwf3 follows",
        False,
        "usable in most exposures, and there are many; grizli uses them as well",
    ),
    DqBit(
        64,
        "warm",
        "warm: a raised dark current",
        False,
        "the dark is subtracted, and ERR holds the noise that it adds",
    ),
    DqBit(128, "bad_reference", "bad reference pixel (bias)", True, "its level is not known"),
    DqBit(
        256,
        "saturated",
        "full-well saturation; in an FLT: before the ramp had begun",
        False,
        "calwf3 leaves saturated reads out of the fit and clears the bit, but for pixels that"
        " were saturated at once. Those are the cores of the brightest stars: masked, the stars"
        " would vanish or break into rings, so they are kept, and the sources are flagged",
    ),
    DqBit(
        512,
        "bad_flat",
        "bad or uncertain flat field, mostly the blobs of the channel select mirror",
        False,
        "up to 15 % less light over some ten pixels: sources are measurable, and flagged;"
        " HAP and grizli use them as well",
    ),
    DqBit(
        1024,
        "spike",
        "spike of a cosmic ray in older frames; reserved since",
        True,
        "rare, and never light from the sky",
    ),
    DqBit(
        2048,
        "zero_read_signal",
        "signal in the zero read, which calwf3 has allowed for",
        False,
        "it marks bright sources: masked, they would vanish",
    ),
    DqBit(
        4096,
        "cosmic_ray_dithers",
        "cosmic ray or artefact that AstroDrizzle found in comparison with other dithers",
        True,
        "the light is not from the sky",
    ),
    DqBit(
        8192,
        "cosmic_ray_ramp",
        "cosmic ray that calwf3 found up the ramp",
        False,
        "the fit leaves the hit out; what remains is usable",
    ),
    DqBit(
        16384,
        "crosstalk",
        "ghost or crosstalk; in older frames: high curvature of the ramp",
        False,
        "not set by calwf3 in an FLT; where others set it, the light is only somewhat wrong",
    ),
)

ALL_BITS = sum(bit.value for bit in DQ_BITS)
DEFAULT_MASK_BITS = sum(bit.value for bit in DQ_BITS if bit.masked)
DEFAULT_GOOD_BITS = ALL_BITS & ~DEFAULT_MASK_BITS

_BY_NAME = {bit.name: bit.value for bit in DQ_BITS}


def parse_bits(text: str) -> int:
    """Read a set of DQ bits.

    Parameters
    ----------
    text : str
        ``"64,512"``, ``"64+512"``, ``"576"`` (a sum) or names (``"warm,bad_flat"``), or a mix;
        a leading ``~`` means every bit but these. An empty text or ``"0"`` is no bit;
        ``"all"`` is every bit.

    Returns
    -------
    int
        The sum of the bits.

    Raises
    ------
    UsageError
        If a word is neither a number made of known bits nor the name of a bit.
    """
    words = text.strip()
    inverted = words.startswith("~")
    if inverted:
        words = words[1:].strip().removeprefix("(").removesuffix(")")
    total = 0
    for word in words.replace("+", ",").replace("|", ",").split(","):
        total |= _parse_word(word.strip(), text)
    return ALL_BITS & ~total if inverted else total


def _parse_word(word: str, text: str) -> int:
    if word in ("", "0"):
        return 0
    if word.lower() == "all":
        return ALL_BITS
    if word.lower() in _BY_NAME:
        return _BY_NAME[word.lower()]
    if word.isascii() and word.isdigit() and int(word) & ~ALL_BITS == 0:
        return int(word)
    known = ", ".join(f"{bit.value} ({bit.name})" for bit in DQ_BITS)
    raise UsageError(f"DQ bits {text!r}: {word!r} is not among the bits of WFC3/IR: {known}")


def mask_bits_from_good(good_bits: int) -> int:
    """Return the bits that hide a pixel, given those that do not."""
    return ALL_BITS & ~good_bits


def describe_bits(bits: int) -> str:
    """Return the names of the bits in a DQ value, such as ``"hot+saturated"``."""
    return "+".join(bit.name for bit in DQ_BITS if bits & bit.value)
