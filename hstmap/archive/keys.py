"""Where the archive's bucket keeps the products of a rootname.

Key of an exposure: ``hst/public/<r[:4]>/<r>/<r>_flt.fits``, in lower case. The folder is the
dataset, which is not always the file's own root: what an association is drizzled into lies under
the association, also where the name differs: ``ibg7/ibg705080/ibg705081_drz.fits``. (An
association's name ends in 0, those of its further products in 1 to 9.)
(Registry of Open Data on AWS, ``mast-hst``; MAST's page "HST public data on AWS".)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hstmap.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "BUCKET_URL",
    "PRODUCTS",
    "PUBLIC_PREFIX",
    "WFC3_PREFIX",
    "KeyParts",
    "derive_keys",
    "is_association",
    "key_of",
    "parse_key",
]

BUCKET_URL: Final = "s3://stpubdata"
PUBLIC_PREFIX: Final = "hst/public/"
WFC3_PREFIX: Final = PUBLIC_PREFIX + "i"
"""Rootnames of WFC3 begin with ``i`` (HST Data Handbooks, "HST file names")."""

PRODUCTS: Final = ("flt", "drz", "ima")

_KEY = re.compile(
    r"(?:^|/)(?P<folder>[a-z0-9]{4})/(?P<dataset>[a-z0-9]{9})/"
    r"(?P<rootname>[a-z0-9]{9})_(?P<product>[a-z0-9]+)\.fits$"
)


@dataclass(frozen=True)
class KeyParts:
    """What a key says by itself.

    Parameters
    ----------
    dataset : str
        Folder that the file lies in: the exposure itself, or an association.
    rootname : str
        Nine characters, lower case.
    product : str
        Suffix: ``flt``, ``ima``, ``drz``, ``flc`` and so on.
    """

    dataset: str
    rootname: str
    product: str


def key_of(rootname: str, product: str, dataset: str | None = None) -> str:
    """Return the key of a product.

    Parameters
    ----------
    rootname : str
        Nine characters, in any case.
    product : str
        One of `PRODUCTS`.
    dataset : str, optional
        The folder, where it does not follow from the rootname.

    Raises
    ------
    UsageError
        If the rootname is none, or if an exposure's product is asked of an association.
    """
    root = rootname.lower()
    folder = (dataset or re.sub("[1-9]$", "0", root)).lower()
    for name in (root, folder):
        if not re.fullmatch("[a-z0-9]{9}", name):
            raise UsageError(f"{name!r} is not a rootname: nine letters and digits were expected")
    if product not in PRODUCTS:
        raise UsageError(f"product {product!r} is not one of {', '.join(PRODUCTS)}")
    if product != "drz" and is_association(root):
        raise UsageError(f"{root} is an association, which has no {product}: ask for its drz")
    return f"{PUBLIC_PREFIX}{folder[:4]}/{folder}/{root}_{product}.fits"


def derive_keys(rootnames: pa.ChunkedArray | pa.Array, product: str) -> pa.Array:
    """Return the keys of many rootnames at once, as `key_of` does for one.

    Parameters
    ----------
    rootnames : pyarrow array of str
        In lower case, nine characters each. Not checked again: `key_of` does.
    product : str
        One of `PRODUCTS`.
    """
    import pyarrow.compute as pc

    dataset = pc.replace_substring_regex(rootnames, "[1-9]$", "0")
    folder = pc.utf8_slice_codeunits(rootnames, 0, 4)
    name = pc.binary_join_element_wise(rootnames, f"{product}.fits", "_")
    return pc.binary_join_element_wise(PUBLIC_PREFIX[:-1], folder, dataset, name, "/")


def is_association(rootname: str) -> bool:
    """Tell an association, whose name ends in a digit, from an exposure (ends in a letter)."""
    return rootname[-1:].isdigit()


def parse_key(key: str) -> KeyParts | None:
    """Return what a key says, None for one that is not laid out as the archive's."""
    match = _KEY.search(key)
    if match is None or match["folder"] != match["dataset"][:4]:
        return None
    return KeyParts(match["dataset"], match["rootname"], match["product"])
