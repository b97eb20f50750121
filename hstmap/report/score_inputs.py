"""What a score is taken of: the sources of images, each with the list that it is judged by."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from hstmap.errors import UsageError
from hstmap.report.source_files import LIST_SUFFIXES, read_source_file
from hstmap.sample import TRUTH_SUFFIX
from hstmap.storage import open_store
from hstmap.wfc3.compare import Comparison, MatchParameters, compare
from hstmap.wfc3.source_list import SourceList, make_source_list

if TYPE_CHECKING:
    from collections.abc import Callable

    from hstmap.report.results import RunResults

__all__ = ["DEFAULT_RADIUS", "ImageSources", "Inputs", "compare_all", "read_inputs"]

DEFAULT_RADIUS: Final = {"pixel": 2.0, "sky": 0.25}
"""Pixels and arcsec: two of the detector's pixels, either way."""


@dataclass(frozen=True, eq=False)
class ImageSources:
    """The sources that a catalogue has of one image.

    Attributes
    ----------
    rootname : str
        Of the image, as far as it is known.
    sources : SourceList
    shape : (int, int) or None
        Height and width of the image, where that is known.
    read_wcs : callable or None
        Reads the image's WCS, where there is an image.
    """

    rootname: str
    sources: SourceList
    shape: tuple[int, int] | None = None
    read_wcs: Callable[[], Any] | None = None


@dataclass(frozen=True, eq=False)
class Inputs:
    """Images with what they are judged by.

    Attributes
    ----------
    pairs : tuple of (ImageSources, SourceList)
    without_reference : tuple of str
        Rootnames of images that nothing says the truth about.
    """

    pairs: tuple[tuple[ImageSources, SourceList], ...]
    without_reference: tuple[str, ...] = field(default=())


def read_inputs(
    catalog_url: str, truth_url: str, *, image: str = "", mag: str = "", truth_mag: str = ""
) -> Inputs:
    """Read a catalogue and what it is to be judged by.

    Parameters
    ----------
    catalog_url : str
        A run, or a file with a list of sources.
    truth_url : str
        A list of sources, or a folder with tables of the truth named after the images.
    image : str
        Rootname of the only image to judge; all if empty.
    mag, truth_mag : str
        Columns of magnitudes in the two; guessed if empty.

    Returns
    -------
    Inputs

    Raises
    ------
    UsageError
        If one of the two cannot be read, or they have no image in common.
    """
    images = _read_catalog(catalog_url, image, mag)
    if _is_list(truth_url):
        return Inputs(_with_one_list(images, truth_url, truth_mag))
    store = open_store(truth_url)
    there = {info.key for info in store.list("")}
    pairs = []
    for each in images:
        if f"{each.rootname}{TRUTH_SUFFIX}" in there:
            url = f"{store.url}/{each.rootname}{TRUTH_SUFFIX}"
            truth = make_source_list(read_source_file(url), truth_mag, url)
            pairs.append((each, truth))
    if not pairs:
        names = ", ".join(each.rootname for each in images[:3])
        raise UsageError(
            f"{truth_url} has no table of the truth for the images of {catalog_url} ({names}"
            f"{' and others' if len(images) > 3 else ''}): expected {{rootname}}{TRUTH_SUFFIX}, as "
            "`hstmap simulate` writes it, or the name of a list of sources"
        )
    judged = {each.rootname for each, _ in pairs}
    missing = tuple(each.rootname for each in images if each.rootname not in judged)
    return Inputs(tuple(pairs), missing)


def _is_list(url: str) -> bool:
    return url.lower().endswith(LIST_SUFFIXES)


def _read_catalog(url: str, image: str, mag: str) -> list[ImageSources]:
    """Read the sources of each image of a run or of a file."""
    if not _is_list(url):
        from hstmap.report.results import RunResults

        results = RunResults(url)
        rows = [results.image(image)] if image else results.images()
        if not rows:
            raise UsageError(f"no image of the run at {url} was done: there is nothing to judge")
        return [_of_run(results, row, mag) for row in rows]
    columns = read_source_file(url)
    if "rootname" not in columns:
        rootname = image or url.rstrip("/").rpartition("/")[2].partition(".")[0].partition("_")[0]
        return [ImageSources(rootname, make_source_list(columns, mag, url))]
    names = np.asarray(columns["rootname"]).astype(str)
    wanted = [image] if image else sorted(set(names))
    if image and image not in names:
        raise UsageError(f"{url} has no source of an image {image!r}")
    return [
        ImageSources(
            name,
            make_source_list(
                {key: values[names == name] for key, values in columns.items()}, mag, url
            ),
        )
        for name in wanted
    ]


def _of_run(results: RunResults, row: dict[str, Any], mag: str) -> ImageSources:
    frame = results.sources_of(row)
    columns = {str(name): frame[name].to_numpy() for name in frame}
    return ImageSources(
        row["rootname"],
        make_source_list(columns, mag, f"the catalogue of {row['rootname']}"),
        (row["ny"], row["nx"]),
        lambda: results.read_image(row).wcs,
    )


def _with_one_list(
    images: list[ImageSources], url: str, truth_mag: str
) -> tuple[tuple[ImageSources, SourceList], ...]:
    """Judge by one list: of one image, or of the sky."""
    reference = make_source_list(read_source_file(url), truth_mag, url)
    name = url.rpartition("/")[2]
    own = [each for each in images if each.rootname and name.startswith(each.rootname)]
    images = own or images
    if len(images) > 1 and not reference.has_sky:
        raise UsageError(
            f"{url} has positions in pixels only, and the catalogue is of {len(images)} images; "
            "say which of them it belongs to: --image ROOTNAME"
        )
    return tuple((each, reference) for each in images)


def compare_all(
    inputs: Inputs, by: str, radius: float | None, parameters: MatchParameters
) -> tuple[list[Comparison], MatchParameters]:
    """Compare each image with its reference.

    Parameters
    ----------
    inputs : Inputs
    by : {"pixel", "sky", ""}
        Where; if empty, in pixels where every list has them.
    radius : float or None
        Pixels or arcsec; by default `DEFAULT_RADIUS`.
    parameters : MatchParameters
        All but these two.

    Returns
    -------
    list of Comparison
        One an image.
    MatchParameters
        As they were used.
    """
    from dataclasses import replace

    if not by:
        lists = [each for image, truth in inputs.pairs for each in (image.sources, truth)]
        by = "pixel" if all(each.has_pixels for each in lists) else "sky"
    parameters = replace(parameters, by=by, radius=DEFAULT_RADIUS[by] if radius is None else radius)
    return [_compare(image, truth, parameters) for image, truth in inputs.pairs], parameters


def _compare(image: ImageSources, truth: SourceList, parameters: MatchParameters) -> Comparison:
    """Compare one image, with that part of the reference that it could have seen."""
    if image.shape is None:
        return compare(image.sources, _near(truth, image.sources, parameters), parameters)
    if not truth.has_pixels and truth.has_sky and image.read_wcs:
        wcs = image.read_wcs()
        if wcs is not None:
            truth = truth.with_pixels(wcs)
            truth = truth.take(np.isfinite(truth.x) & np.isfinite(truth.y))
    return compare(image.sources, truth, parameters, image.shape)


def _near(truth: SourceList, found: SourceList, parameters: MatchParameters) -> SourceList:
    """Keep of a reference what lies in the rectangle that the catalogue's sources span."""
    if not len(found):
        return truth
    x, y = ("x", "y") if parameters.by == "pixel" else ("ra", "dec")
    found = found.take(np.isfinite(getattr(found, x)) & np.isfinite(getattr(found, y)))
    if not len(found):
        return truth
    if parameters.by == "pixel":
        return truth.take(
            _within(truth.x, found.x, parameters.radius)
            & _within(truth.y, found.y, parameters.radius)
        )
    reach = parameters.radius / 3600.0
    # Degrees of right ascension are short where meridians meet, and all lie near at a pole.
    highest = min(90.0, np.abs(found.dec).max() + reach)
    narrowing = math.cos(math.radians(highest))
    reach_ra = 360.0 if 360.0 * narrowing <= reach else reach / narrowing
    # Counted from one of the sources, so that 0 h is nowhere near; around a pole it is anywhere.
    ours = (found.ra - found.ra[0] + 180.0) % 360.0
    from_first = (truth.ra - found.ra[0] + 180.0 - (ours.min() - reach_ra)) % 360.0
    inside = from_first <= np.ptp(ours) + 2 * reach_ra
    return truth.take(inside & _within(truth.dec, found.dec, reach))


def _within(values: np.ndarray, range_of: np.ndarray, reach: float) -> np.ndarray:
    """Tell which values lie between the least and the largest of others, or as near as that."""
    inside: np.ndarray = (values >= range_of.min() - reach) & (values <= range_of.max() + reach)
    return inside
