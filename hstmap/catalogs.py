"""Catalogues of images: a FITS file for each image, or one for each batch with a table an image.

On S3 a file an image is most of a large run's bill: a PUT costs what 5 GB-seconds do. A bundle
holds the same tables with the same cards; the row of an image says where in it they are, so that
one ranged GET fetches them.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from hstmap.batch import Batch, RunParameters, bundle_key, catalog_key
from hstmap.errors import ConservationError
from hstmap.wfc3.catalog import TABLE_NAME, Card, fits_extension, fits_primary
from hstmap.wfc3.measure import Sources

__all__ = ["CatalogFiles"]

#: Characters that value and comment of a FITS card share, less quotes and slash.
_CARD_ROOM = 60


class CatalogFiles:
    """The catalogues of a batch, while it is done.

    Parameters
    ----------
    batch : Batch
        Says whether each image gets a file, all get one, or none.
    put : callable
        Writes the bytes of a file under its key.
    """

    def __init__(self, batch: Batch, put: Callable[[str, bytes], Any]) -> None:
        self._batch = batch
        self._put = put
        self._bundle = io.BytesIO()
        self._n_bundled = 0

    def add(self, row: Mapping[str, Any], sources: Sources) -> dict[str, Any]:
        """Make the catalogue of an image, and write it if it is a file of its own.

        Parameters
        ----------
        row : mapping
            Columns of `~hstmap.wfc3.schema.IMAGE_COLUMNS`.
        sources : dict of str to numpy.ndarray
            Columns of `~hstmap.wfc3.schema.SOURCE_COLUMNS`.

        Returns
        -------
        dict
            What the image's row says of where it is; empty if there is none.
        """
        if self._batch.catalogs == "none":
            return {}
        cards = _provenance(row, self._batch)
        if self._batch.catalogs == "image":
            key, name = catalog_key(row["rootname"]), TABLE_NAME
            first, table = fits_primary(cards), fits_extension(sources)
            start = len(first)
            self._put(key, first + table)
        else:
            key, name = bundle_key(self._batch), row["rootname"]
            if self._n_bundled == 0:
                self._bundle.write(fits_primary(cards[:1]))
            start = self._bundle.tell()
            table = fits_extension(sources, cards, name)
            self._bundle.write(table)
            self._n_bundled += 1
        return {
            "catalog": key,
            "catalog_hdu": name,
            "catalog_start": start,
            "catalog_nbytes": len(table),
        }

    def finish(self, n_measured: int) -> None:
        """Write the bundle, if that is wanted and there are catalogues in it.

        Parameters
        ----------
        n_measured : int
            Images that must have a catalogue.

        Raises
        ------
        ConservationError
            If it has another number of them.
        """
        if self._batch.catalogs != "batch":
            return
        key = bundle_key(self._batch)
        if self._n_bundled != n_measured:
            raise ConservationError(
                f"{n_measured} images of the batch were measured and {key} has {self._n_bundled}"
            )
        if self._n_bundled:
            # The buffer's own bytes, not a copy: it is not written to any more.
            self._put(key, self._bundle.getvalue())


def _provenance(row: Mapping[str, Any], batch: Batch) -> list[Card]:
    """Say in an image's catalogue what it was made from, and how."""
    cards: list[tuple[str, str | int | float | None, str]] = [
        ("ORIGIN", f"hstmap {batch.version}", "software that made this catalogue"),
        ("ROOTNAME", row["rootname"], "rootname of the image"),
        ("INPUT", row["key"], "where the image was read from"),
        ("ETAG", row["etag"], "the store's tag of the version read"),
        ("FILTER", row["filter"], "filter"),
        ("EXPSTART", row["exposure_start_mjd"], "[d] start of the exposure (MJD, UTC)"),
        ("EXPTIME", row["exposure_s"], "[s] exposure time"),
        ("CAL_VER", row["cal_ver"], "version of the calibration"),
        ("WCSNAME", row["wcs_name"], "name of the astrometric solution"),
        ("NSOURCES", row["n_sources"], "number of sources"),
        ("BACKGND", row["background"], "[electron/s/pix] background"),
        ("BACKRMS", row["background_rms"], "[electron/s/pix] its rms"),
        ("ERRSCALE", row["error_scale"], "factor applied to the image's errors"),
        ("ZEROPNT", row["zero_point"], "[mag] AB magnitude of 1 electron/s"),
        ("DEPTH5", row["depth_5sigma"], "[mag] of 5 sigma in 0.45 arcsec"),
        ("PARAMS", _parameters(batch.parameters), "how sources were found"),
        ("VERSIONS", _versions(), "of the libraries"),
    ]
    # A long text takes the whole card: astropy would cut the comment, and warn of it.
    return [
        (name, value, comment if len(str(value)) + len(comment) < _CARD_ROOM else "")
        for name, value, comment in cards
        if value not in (None, "")
    ]


@lru_cache(maxsize=4)
def _parameters(parameters: RunParameters) -> str:
    """Write parameters in one line."""
    return json.dumps(parameters.as_dict())


@lru_cache(maxsize=1)
def _versions() -> str:
    """Name the libraries that the numbers come from."""
    import astropy
    import numpy as np
    import sep

    return f"sep {sep.__version__}, astropy {astropy.__version__}, numpy {np.__version__}"
