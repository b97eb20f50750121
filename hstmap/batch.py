"""Tasks: the images of one call with all that the call needs to know, and what it answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final, Literal, get_args

import hstmap
from hstmap.storage import RequestCounts, StorageOptions
from hstmap.wfc3.parameters import PRESETS, DetectionParameters, MeasureParameters, ReadParameters
from hstmap.wfc3.schema import IMAGE_COLUMNS

__all__ = [
    "CATALOGS",
    "Batch",
    "BatchReport",
    "Catalogs",
    "ImageKey",
    "RunParameters",
    "bundle_key",
    "catalog_key",
    "do_batch",
    "image_row",
    "n_catalog_files",
    "parameters_from_dict",
    "part_key",
]

#: How images get FITS catalogues: a file each, one for each batch with a table an image, or none.
Catalogs = Literal["image", "batch", "none"]
CATALOGS: Final[tuple[Catalogs, ...]] = get_args(Catalogs)

_DIGEST_LENGTH: Final = 24


def n_catalog_files(catalogs: Catalogs, n_images: int, n_batches: int = 1) -> int:
    """Count the FITS files that batches write.

    Parameters
    ----------
    catalogs : {"image", "batch", "none"}
    n_images : int
        Of all these batches together.
    n_batches : int

    Returns
    -------
    int
    """
    return {"image": n_images, "batch": n_batches, "none": 0}[catalogs]


@dataclass(frozen=True)
class RunParameters:
    """All that decides what is in the catalogues.

    Attributes
    ----------
    read : ReadParameters
    detection : DetectionParameters
    measure : MeasureParameters
    """

    read: ReadParameters = field(default_factory=ReadParameters)
    detection: DetectionParameters = PRESETS["default"]
    measure: MeasureParameters = field(default_factory=MeasureParameters)

    def as_dict(self) -> dict[str, Any]:
        """Flatten them: ``{"detection.threshold": 1.5, ...}``.

        Returns
        -------
        dict
        """
        return {
            f"{group.name}.{name}": value
            for group in fields(self)
            for name, value in asdict(getattr(self, group.name)).items()
        }


def parameters_from_dict(flat: Mapping[str, Any]) -> RunParameters:
    """Restore parameters that `RunParameters.as_dict` flattened.

    Parameters
    ----------
    flat : mapping
        ``{"detection.threshold": 1.5, ...}``.

    Returns
    -------
    RunParameters
    """
    groups: dict[str, dict[str, Any]] = {}
    for path, value in flat.items():
        group, _, name = path.partition(".")
        groups.setdefault(group, {})[name] = value
    return RunParameters(
        ReadParameters(**groups["read"]),
        DetectionParameters(**groups["detection"]),
        MeasureParameters(**groups["measure"]),
    )


@dataclass(frozen=True)
class ImageKey:
    """One image to be done.

    Attributes
    ----------
    rootname : str
    url : str
        Where its file is.
    weight_url : str
        Where its weights are, if they are a file of their own; else empty.
    """

    rootname: str
    url: str
    weight_url: str = ""


@dataclass(frozen=True)
class Batch:
    """A task: the images of one call, with all that the call needs to know.

    Attributes
    ----------
    images : tuple of ImageKey
    out : str
        URL of the run.
    parameters : RunParameters
    catalogs : {"image", "batch", "none"}
        Whether each image gets a FITS file, all get one together, or none.
    version : str
        Of the hstmap that made the batch.
    source_options, out_options : StorageOptions
        How to reach the images and the run.
    debug : bool
        Whether tracebacks go into the images' notes.
    """

    images: tuple[ImageKey, ...]
    out: str
    parameters: RunParameters = field(default_factory=RunParameters)
    catalogs: Catalogs = "image"
    version: str = hstmap.__version__
    source_options: StorageOptions = field(default_factory=StorageOptions)
    out_options: StorageOptions = field(default_factory=StorageOptions)
    debug: bool = False

    @property
    def n_files(self) -> int:
        """Objects that it writes, at the most: its part, and catalogues."""
        return 1 + n_catalog_files(self.catalogs, len(self.images))


@dataclass(frozen=True)
class BatchReport:
    """What a worker says of a batch: small enough to travel in an answer.

    Attributes
    ----------
    part : str
        Key of the part.
    outcomes : dict of str to int
        Number of images by outcome.
    n_sources : int
    requests : RequestCounts
        What was asked of the stores.
    elapsed_s : float
    waited_s : float
        Of it, for images to come and results to be taken.
    cpu_s : float
        CPU time of the worker's process meanwhile, all its threads together.
    """

    part: str
    outcomes: dict[str, int]
    n_sources: int
    requests: RequestCounts
    elapsed_s: float
    waited_s: float = 0.0
    cpu_s: float = 0.0


def part_key(batch: Batch) -> str:
    """Name the part of a batch by what goes into it.

    The same images, parameters and code give the same key: who writes a part twice writes the
    same bytes of sources under the same name.

    Parameters
    ----------
    batch : Batch

    Returns
    -------
    str
    """
    return f"parts/{_digest(batch)}.parquet"


def bundle_key(batch: Batch) -> str:
    """Name the file that holds the catalogues of a batch, as `part_key` does its part.

    Parameters
    ----------
    batch : Batch

    Returns
    -------
    str
    """
    return f"catalogs/{_digest(batch)}_cat.fits"


def _digest(batch: Batch) -> str:
    """Digest what goes into a batch."""
    inputs = json.dumps(
        [
            [asdict(image) for image in batch.images],
            batch.parameters.as_dict(),
            batch.catalogs,
            batch.version,
        ],
        sort_keys=True,
    )
    return hashlib.sha256(inputs.encode()).hexdigest()[:_DIGEST_LENGTH]


def catalog_key(rootname: str) -> str:
    """Name the file that holds the catalogue of one image.

    Parameters
    ----------
    rootname : str

    Returns
    -------
    str
    """
    return f"catalogs/{rootname}_cat.fits"


def image_row(image: ImageKey, outcome: str, **values: Any) -> dict[str, Any]:
    """Make the row of an image; what is not given is empty.

    Parameters
    ----------
    image : ImageKey
    outcome : str
        One of `~hstmap.wfc3.schema.OUTCOMES`.
    **values
        Of other columns.

    Returns
    -------
    dict
        With every column of `~hstmap.wfc3.schema.IMAGE_COLUMNS`; None is a float's NaN.
    """
    empty: dict[str, Any] = {"str": "", "i4": 0, "i8": 0, "f4": None, "f8": None}
    row = {column.name: empty[column.dtype] for column in IMAGE_COLUMNS}
    row |= {"rootname": image.rootname, "key": image.url, "outcome": outcome}
    return row | values


def do_batch(batch: Batch) -> BatchReport:
    """Do a batch: what tasks of a run call.

    Parameters
    ----------
    batch : Batch

    Returns
    -------
    BatchReport
        See `hstmap.worker.run_batch`, which is imported where it runs: clients send this function
        and need neither astropy nor SEP for it.
    """
    from hstmap.worker import run_batch

    return run_batch(batch)
