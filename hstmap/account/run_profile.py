"""What images were measured to take: the distributions that plans and simulations draw from.

A profile comes from a run (`~hstmap.account.run_measured.profile_of_run`) or with hstmap
(`load_profile`), which has one that ``python -m benchmarks profile`` made; it says on which
machine.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from hstmap.errors import UsageError

__all__ = ["DEFAULT_PROFILE", "ImageSample", "Profile", "load_profile"]

DEFAULT_PROFILE: Final = "wfc3-ir"
_FOLDER: Final = "profiles"
_SERIES: Final = ("overhead_s", "init_s", "wait_s")


@dataclass(frozen=True)
class ImageSample:
    """What one image was measured to take.

    Attributes
    ----------
    compute_s : float
        From its bytes to its rows, its catalogue not included, s.
    catalog_s : float
        Making its own catalogue, s.
    nbytes_read : int
        Fetched of its file.
    """

    compute_s: float
    catalog_s: float
    nbytes_read: int


@dataclass(frozen=True)
class Profile:
    """Measured distributions.

    Attributes
    ----------
    name, origin, machine, date : str
        Where it comes from.
    images : tuple of ImageSample
    n_get_image : float
        Requests that reading an image takes, on average.
    overhead_s : tuple of float
        What each batch of them took beyond its images: mostly making the part, s.
    init_s : tuple of float
        Starting Python and importing a worker, s: what stands for INIT.
    part_nbytes_image, catalog_nbytes_image : float
        What is stored of an image, in parts and as its own catalogue, on average.
    reduce_s_image : float
        Merging, s for each further image.
    summary_nbytes_image : float
        What the summary has of an image, on average; 0 where none was made.
    wait_s : tuple of float
        What each batch waited for its images to come and its part to be taken while its CPU did
        nothing, s; empty where files were on a disk beside the worker.
    call_s : float
        What an invocation took beyond its batch, s.
    send_s, boot_s : float
        From the client's sending until a warm worker began, and what it was more until the INIT of
        a cold one, s: not billed.
    peak_memory_nbytes : int
        The most that a worker held; 0 where nobody looked.
    on_lambda : bool
        Whether it was measured there: starts are INITs then, and times those of a whole vCPU.
    n_attempts, n_failures : int
        Calls that began there, and how many of them left no result.
    """

    name: str
    origin: str
    machine: str
    date: str
    images: tuple[ImageSample, ...]
    n_get_image: float
    overhead_s: tuple[float, ...]
    init_s: tuple[float, ...]
    part_nbytes_image: float
    catalog_nbytes_image: float
    reduce_s_image: float
    summary_nbytes_image: float = 0.0
    wait_s: tuple[float, ...] = ()
    call_s: float = 0.0
    send_s: float = 0.0
    boot_s: float = 0.0
    peak_memory_nbytes: int = 0
    on_lambda: bool = False
    n_attempts: int = 0
    n_failures: int = 0

    def __post_init__(self) -> None:
        if not (self.images and self.overhead_s and self.init_s):
            raise UsageError(
                f"the profile {self.name!r} has {len(self.images)} images, {len(self.overhead_s)} "
                f"batches and {len(self.init_s)} starts; it needs one of each at least"
            )

    @property
    def mean_compute_s(self) -> float:
        """Mean of what images take, s."""
        return statistics.fmean(image.compute_s for image in self.images)

    @property
    def mean_catalog_s(self) -> float:
        """Mean of what their catalogues take, s."""
        return statistics.fmean(image.catalog_s for image in self.images)

    @property
    def overhead_s_image(self) -> float:
        """What batches take beyond their images, s an image."""
        return math.fsum(self.overhead_s) / len(self.images)

    @property
    def mean_nbytes_read(self) -> float:
        """Mean of what is fetched of an image."""
        return statistics.fmean(image.nbytes_read for image in self.images)

    @property
    def merged_nbytes_image(self) -> float:
        """What the summary has of an image; as much as parts where none was made."""
        return self.summary_nbytes_image or self.part_nbytes_image

    def as_json(self) -> str:
        """Write it as JSON; `load_profile` reads it."""
        record = asdict(self) | {"images": [list(asdict(image).values()) for image in self.images]}
        return json.dumps(record) + "\n"


def load_profile(name: str = DEFAULT_PROFILE) -> Profile:
    """Read a profile.

    Parameters
    ----------
    name : str
        One that comes with hstmap, or the path of a file like them.

    Returns
    -------
    Profile

    Raises
    ------
    UsageError
        If there is no such profile, or it is something else.
    """
    own = files("hstmap") / _FOLDER / f"{name}.json"
    try:
        text = (own if own.is_file() else Path(name)).read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"there is no profile {name!r}: {error.strerror}; give {DEFAULT_PROFILE}, a file made "
            "by `python -m benchmarks profile`, or the folder of a run"
        ) from error
    try:
        record: Mapping[str, Any] = json.loads(text)
        known = {
            item.name: record[item.name]
            if item.default is MISSING
            else record.get(item.name, item.default)
            for item in fields(Profile)
        }
        known["images"] = tuple(ImageSample(*image) for image in known["images"])
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{name} is not a profile: {type(error).__name__} {error}") from error
    return Profile(**known | {key: tuple(known[key]) for key in _SERIES})
