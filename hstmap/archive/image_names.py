"""What a file's name says of an image, and which files of a listing are images of their own."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

__all__ = ["Named", "choose_products", "join_companions", "name_of"]

_SUFFIX: Final = re.compile(r"\.(fits|fit)(\.gz)?$", re.IGNORECASE)

_PREFERENCE: Final = ("flt", "drz", "ima", "flc", "drc", "crj", "crc", "raw")
"""Of one rootname's products, the calibrated single exposure first."""

_WITHOUT_IMAGE: Final = ("asn", "spt", "trl", "jit", "jif", "pdq")
"""Products that hold no image: association tables, engineering, trailer and pointing data
(HST Data Handbooks, "HST file names")."""

_ARCHIVE_NAME: Final = re.compile(
    rf"(?P<rootname>[a-z][a-z0-9]{{8}})_(?P<product>{'|'.join(_PREFERENCE + _WITHOUT_IMAGE)})",
    re.IGNORECASE,
)

_SCIENCE: Final = "_sci"

_COMPANIONS: Final = ("_wht", "_rms")
"""Endings of what may lie beside ``_sci``: the weights are taken before the errors."""


@dataclass(frozen=True)
class Named:
    """One file, and what its name says.

    Parameters
    ----------
    url : str
        Where it lies.
    rootname : str
        The exposure or association, in lower case; of names that are not the archive's, the name
        without its ending.
    product : str
        ``'flt'``, ``'drz'``, ``'ima'`` and so on; ``'image'`` of other names.
    nbytes : int or None
        Size, where a listing said it.
    etag : str
        Likewise.
    companion_url : str
        Where its weight or error image lies.
    """

    url: str
    rootname: str
    product: str
    nbytes: int | None = None
    etag: str = ""
    companion_url: str = ""


def name_of(url: str, nbytes: int | None = None, etag: str = "") -> Named:
    """Read a file's name.

    Examples
    --------
    >>> name_of("s3://stpubdata/hst/public/ib6o/ib6o23rtq/ib6o23rtq_flt.fits").rootname
    'ib6o23rtq'
    >>> name_of("/data/hudf_f160w_sci.fits").product
    'image'
    """
    stem = _stem(url.rpartition("/")[2])
    match = _ARCHIVE_NAME.fullmatch(stem)
    if match:
        return Named(url, match["rootname"].lower(), match["product"].lower(), nbytes, etag)
    return Named(url, stem, "image", nbytes, etag)


def choose_products(files: Iterable[Named], product: str | None) -> tuple[list[Named], list[str]]:
    """Leave aside what a listing holds beside the product that is wanted, and say so.

    Parameters
    ----------
    files : iterable of Named
        A listing. Names that are not the archive's are always chosen.
    product : str or None
        Use only this product; None for the first of each rootname's products by preference.

    Returns
    -------
    chosen : list of Named
        In the order of the listing.
    notes : list of str
        One line for each reason to leave files aside, with how many.
    """
    images = []
    no_image: Counter[str] = Counter()
    for file in files:
        if file.product in _WITHOUT_IMAGE:
            no_image[file.product] += 1
        else:
            images.append(file)
    best: dict[str, str] = {}
    for image in images:
        before = best.setdefault(image.rootname, image.product)
        if _rank(image.product) < _rank(before):
            best[image.rootname] = image.product
    chosen = []
    others: Counter[str] = Counter()
    for image in images:
        if image.product in ("image", product or best[image.rootname]):
            chosen.append(image)
        else:
            others[image.product] += 1
    why = f"only {product} was asked for" if product else "of their rootname another is used"
    notes = [
        f"{counts.total():,} files left aside, {reason}: "
        + ", ".join(f"{n:,} {name}" for name, n in counts.most_common())
        for counts, reason in ((no_image, "they hold no image"), (others, why))
        if counts
    ]
    return chosen, notes


def join_companions(files: Sequence[Named]) -> tuple[list[Named], list[str]]:
    """Give bare science images their weight or error image, which is no image of its own.

    Parameters
    ----------
    files : sequence of Named
        All files of all sources.

    Returns
    -------
    images : list of Named
        Without the ``_wht`` and ``_rms`` of each ``_sci`` of the same stem and folder.
    notes : list of str
        One line if there are any.
    """
    stems = {_stem(file.url).lower(): file for file in files}
    companions: set[str] = set()
    companion_of: dict[str, str] = {}
    for stem, file in stems.items():
        if not stem.endswith(_SCIENCE):
            continue
        for ending in _COMPANIONS:
            companion = stems.get(stem.removesuffix(_SCIENCE) + ending)
            if companion is not None:
                companions.add(companion.url)
                companion_of.setdefault(file.url, companion.url)
    images = [
        replace(file, companion_url=companion_of[file.url]) if file.url in companion_of else file
        for file in files
        if file.url not in companions
    ]
    if not companions:
        return images, []
    return images, [f"{len(companions):,} weight and error images belong to science images"]


def _stem(url: str) -> str:
    return _SUFFIX.sub("", url)


def _rank(product: str) -> int:
    return _PREFERENCE.index(product) if product in _PREFERENCE else len(_PREFERENCE)
