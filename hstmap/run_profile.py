"""What images were measured to take: the distributions that plans and simulations draw from.

A profile comes from an earlier run (`profile_of_run`) or with hstmap (`load_profile`), which has
one that ``python -m benchmarks profile`` made; it says on which machine.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hstmap.errors import UsageError
from hstmap.wfc3.schema import TIMED_STEPS

if TYPE_CHECKING:
    from hstmap.storage import Store

__all__ = ["DEFAULT_PROFILE", "ImageSample", "Profile", "load_profile", "profile_of_run"]

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
    wait_s : tuple of float
        What each batch waited for its images to come and its part to be taken, s; empty where
        files were on a disk beside the worker.
    call_s : float
        What an invocation took beyond its batch, s.
    peak_memory_nbytes : int
        The most that a worker held; 0 where nobody looked.
    on_lambda : bool
        Whether it was measured there: starts are INITs then, and times those of a whole vCPU.
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
    wait_s: tuple[float, ...] = ()
    call_s: float = 0.0
    peak_memory_nbytes: int = 0
    on_lambda: bool = False

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


def profile_of_run(store: Store, base: Profile | None = None) -> Profile:
    """Make a profile of what a run took.

    Parameters
    ----------
    store : Store
        The run's.
    base : Profile, optional
        Has what runs do not tell: starts, the reduce, catalogues where none were written. By
        default the one that comes with hstmap.

    Returns
    -------
    Profile

    Raises
    ------
    UsageError
        If the run has done nothing that could be measured.
    """
    from hstmap.bag.ledger import read_attempts
    from hstmap.parts import placed_images

    base = base or load_profile()
    rows = [placed.row for placed in placed_images(store).values()]
    measured = [row for row in rows if row["outcome"] in ("ok", "empty")]
    details = [
        attempt.value
        for attempt in read_attempts(store)
        if attempt.status == "ok" and isinstance(attempt.value, dict) and "part" in attempt.value
    ]
    if not measured or not details:
        raise UsageError(
            f"{store.url} has {len(measured)} measured images and a ledger of {len(details)} "
            "finished batches; a profile needs both: name a run that `map` made"
        )
    sizes = {prefix: _nbytes(store, prefix) for prefix in ("parts/", "catalogs/")}
    n_catalogs = sum(bool(row["catalog"]) for row in measured)
    catalog_nbytes = sizes["catalogs/"] / n_catalogs if n_catalogs else None
    n_images = sum(sum(detail["outcomes"].values()) for detail in details)
    return Profile(
        name=store.url,
        origin=f"{len(measured)} images that the run at {store.url} measured",
        machine="that of the run",
        date="",
        images=tuple(_sample(row) for row in measured),
        n_get_image=sum(detail["requests"]["n_get"] for detail in details) / n_images,
        overhead_s=tuple(_overheads(details, rows)),
        init_s=base.init_s,
        part_nbytes_image=sizes["parts/"] / len(rows),
        catalog_nbytes_image=catalog_nbytes or base.catalog_nbytes_image,
        reduce_s_image=base.reduce_s_image,
    )


def _sample(row: Mapping[str, Any]) -> ImageSample:
    compute_s = sum(row[f"{step}_s"] for step in TIMED_STEPS if step != "write")
    return ImageSample(round(compute_s, 5), round(row["write_s"], 5), row["nbytes_read"])


def _overheads(
    details: Iterable[Mapping[str, Any]], rows: Iterable[Mapping[str, Any]]
) -> Iterable[float]:
    """Take from the time of each batch that of its images."""
    images_s: dict[str, float] = {}
    for row in rows:
        took = sum(row[f"{step}_s"] for step in TIMED_STEPS)
        images_s[row["part"]] = images_s.get(row["part"], 0.0) + took
    for detail in details:
        yield round(max(0.0, detail["elapsed_s"] - images_s.get(detail["part"], 0.0)), 5)


def _nbytes(store: Store, prefix: str) -> int:
    return sum(info.nbytes for info in store.list(prefix))
