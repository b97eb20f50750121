"""The built-in sample: simulated images, made where the results of a run go."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

from hstmap.storage import StorageOptions, open_store
from hstmap.wfc3.simulate import make_sample, sample_rootname

if TYPE_CHECKING:
    from hstmap.storage import Store
    from hstmap.wfc3.simulate import SimulatedImage

__all__ = ["N_SAMPLE_IMAGES", "TRUTH_SUFFIX", "make_sample_files", "put_simulated"]

TRUTH_SUFFIX: Final = "_truth.ecsv"
"""What follows the rootname in the name of a table of the truth."""

N_SAMPLE_IMAGES: Final = 6
_FOLDER: Final = "sample"


def make_sample_files(
    out: str, options: StorageOptions | None = None, *, dry_run: bool = False
) -> list[str]:
    """Write the sample's images and the tables of what is truly in them, unless they are there.

    Parameters
    ----------
    out : str
        URL of the run; they go under ``sample/`` there.
    options : StorageOptions, optional
        How to reach it.
    dry_run : bool
        Whether to write nothing, and only say what the images will be.

    Returns
    -------
    list of str
        URLs of the images.
    """
    store = open_store(out, options)
    names = [f"{sample_rootname(i)}_flt.fits" for i in range(N_SAMPLE_IMAGES)]
    there = {info.key for info in store.list(f"{_FOLDER}/")}
    if not dry_run and not {f"{_FOLDER}/{name}" for name in names} <= there:
        for image in make_sample(N_SAMPLE_IMAGES):
            put_simulated(store, image, f"{_FOLDER}/")
    return [f"{store.url}/{_FOLDER}/{name}" for name in names]


def put_simulated(store: Store, image: SimulatedImage, prefix: str = "") -> None:
    """Write a simulated image, and the truth about it beside it.

    Parameters
    ----------
    store : Store
    image : SimulatedImage
    prefix : str
        Of both keys.
    """
    truth = io.StringIO()
    image.truth.write(truth, format="ascii.ecsv")
    # The image last: where it is, its truth is.
    store.put(f"{prefix}{image.rootname}{TRUTH_SUFFIX}", truth.getvalue().encode())
    store.put(f"{prefix}{image.filename}", image.content)
