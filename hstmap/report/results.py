"""Results of a run, as those who draw or export them want them."""

from __future__ import annotations

import io
from collections.abc import Collection
from typing import Any

import pandas as pd

from hstmap.batch import RunParameters, parameters_from_dict
from hstmap.errors import UsageError
from hstmap.parts import PlacedImage, placed_images
from hstmap.report.names import named_near
from hstmap.run_record import read_run_record
from hstmap.storage import StorageOptions, open_store, split_url
from hstmap.wfc3.image import Image, first_nbytes, read_image

__all__ = ["RunResults", "no_such_image"]


def no_such_image(url: str, rootname: str, known: Collection[str]) -> UsageError:
    """Make the error that says that a run has no such image.

    Parameters
    ----------
    url : str
        Of the run.
    rootname : str
        What was asked for.
    known : collection of str
        Rootnames that there are.

    Returns
    -------
    UsageError
    """
    return UsageError(
        f"the run at {url} has no image {rootname!r}; it has {named_near(rootname, known)}"
    )


class RunResults:
    """A run that has parts, whether it is reduced already or not.

    Parameters
    ----------
    out : str
        URL of the run.
    options : StorageOptions, optional
        How to reach it.

    Attributes
    ----------
    url : str
        Absolute.
    parameters : RunParameters
        What it was made with.

    Raises
    ------
    UsageError
        If there is no run.
    """

    def __init__(self, out: str, options: StorageOptions | None = None) -> None:
        self._store = open_store(out, options)
        record = read_run_record(self._store)
        if record is None:
            raise UsageError(
                f"there is no run at {self._store.url}; "
                "name the folder or prefix that was given to map as --out"
            )
        self.url = self._store.url
        self.parameters: RunParameters = parameters_from_dict(record["parameters"])
        self._placed: dict[str, PlacedImage] | None = None
        self._last_part: tuple[str, pd.DataFrame] | None = None

    def images(self) -> list[dict[str, Any]]:
        """Give the rows of all images that have sources, or could have.

        Returns
        -------
        list of dict
            Columns of `~hstmap.wfc3.schema.IMAGE_COLUMNS`, by rootname.
        """
        rows = (image.row for image in self._by_rootname().values())
        return sorted(
            (row for row in rows if row["outcome"] in ("ok", "empty")),
            key=lambda row: str(row["rootname"]),
        )

    def image(self, rootname: str) -> dict[str, Any]:
        """Find the row of an image.

        Parameters
        ----------
        rootname : str

        Returns
        -------
        dict
            Columns of `~hstmap.wfc3.schema.IMAGE_COLUMNS`.

        Raises
        ------
        UsageError
            If the run has no such image, or it has no sources for a reason.
        """
        images = self._by_rootname()
        if rootname not in images:
            raise no_such_image(self._store.url, rootname, images)
        row = images[rootname].row
        if row["outcome"] not in ("ok", "empty"):
            raise UsageError(f"{rootname} ended as {row['outcome']}: {row['message']}")
        return row

    def sources_of(self, row: dict[str, Any]) -> pd.DataFrame:
        """Read the sources of an image.

        Parameters
        ----------
        row : dict
            From `image`.

        Returns
        -------
        pandas.DataFrame
            Columns of `~hstmap.wfc3.schema.SOURCE_COLUMNS`.
        """
        image = self._by_rootname()[row["rootname"]]
        # The images of a part are mostly asked for one after another.
        if self._last_part is None or self._last_part[0] != image.part:
            content = io.BytesIO(self._store.get(image.part))
            self._last_part = image.part, pd.read_parquet(content)
        return self._last_part[1].iloc[image.start : image.stop].reset_index(drop=True)

    def read_image(self, row: dict[str, Any]) -> Image:
        """Read the image itself again, as the run did.

        Parameters
        ----------
        row : dict
            From `image`.

        Returns
        -------
        Image
        """
        root, key = split_url(row["key"])
        with open_store(root).open_ranged(key, first_nbytes(row["product"])) as file:
            return read_image(file, row["key"], self.parameters.read)

    def _by_rootname(self) -> dict[str, PlacedImage]:
        """Index the rows of all parts, once."""
        if self._placed is None:
            self._placed = placed_images(self._store)
        return self._placed
