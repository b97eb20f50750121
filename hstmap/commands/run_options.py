"""Options that all commands have in common which can run a map."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hstmap.batch import RunParameters

__all__ = [
    "add_catalogs_arguments",
    "add_detection_arguments",
    "check_workers_reach",
    "run_parameters",
]


def add_detection_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare how sources are found.

    Parameters
    ----------
    parser : argparse.ArgumentParser
    """
    detection = parser.add_argument_group("how sources are found")
    detection.add_argument(
        "--preset", default="default", choices=("default", "blog"),
        help="named parameters; blog: those of the function of 2018",
    )  # fmt: skip
    detection.add_argument("--threshold", type=float, metavar="SIGMA", help="detection threshold")
    detection.add_argument("--min-pixels", type=int, metavar="N", help="least area of a source")
    detection.add_argument(
        "--kernel-fwhm", type=float, metavar="PIXELS", help="smoothing before detection, 0: none"
    )
    detection.add_argument(
        "--deblend-contrast", type=float, metavar="SHARE", help="least share of a sub-object"
    )
    detection.add_argument("--mesh", type=int, metavar="PIXELS", help="boxes of the background")
    detection.add_argument("--kron-factor", type=float, help="size of the Kron aperture")
    detection.add_argument(
        "--good-bits", metavar="BITS", help="data quality bits that do not mask a pixel: 64,512"
    )


def add_catalogs_arguments(group: Any) -> None:
    """Declare which FITS catalogues are made.

    Parameters
    ----------
    group : argparse group or parser
    """
    # These are hstmap.batch.CATALOGS; a parser is made without what batches need.
    group.add_argument(
        "--catalogs", choices=("image", "batch", "none"), default="image",
        help="FITS catalogues: a file an image; a file a task with a table an image, which S3 "
        "charges far less for; or none (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--no-catalogs", dest="catalogs", action="store_const", const="none",
        help="as --catalogs none",
    )  # fmt: skip


def check_workers_reach(urls: Iterable[str], what: str) -> None:
    """Refuse places of this machine for workers elsewhere.

    Parameters
    ----------
    urls : iterable of str
    what : str
        The option or argument that named them.

    Raises
    ------
    UsageError
    """
    from hstmap.errors import UsageError

    if local := next((url for url in urls if "://" not in url), None):
        raise UsageError(
            f"{what} is {local}, which workers on another machine cannot reach: give a place in a "
            "bucket, s3://BUCKET/PREFIX (aws s3 cp brings images there)"
        )


def run_parameters(arguments: argparse.Namespace) -> RunParameters:
    """Put the options over the preset.

    Parameters
    ----------
    arguments : argparse.Namespace

    Returns
    -------
    RunParameters
    """
    from dataclasses import replace

    from hstmap.batch import RunParameters
    from hstmap.wfc3.dq import mask_bits_from_good, parse_bits
    from hstmap.wfc3.parameters import MEASURE_PRESETS, PRESETS, ReadParameters

    def given(**values: Any) -> dict[str, Any]:
        return {name: value for name, value in values.items() if value is not None}

    detection = replace(
        PRESETS[arguments.preset],
        **given(
            threshold=arguments.threshold,
            min_pixels=arguments.min_pixels,
            kernel_fwhm=arguments.kernel_fwhm,
            deblend_contrast=arguments.deblend_contrast,
            mesh=arguments.mesh,
        ),
    )
    bits = arguments.good_bits
    read = ReadParameters(
        **given(
            mask_bits=mask_bits_from_good(parse_bits(bits)) if bits else None,
            only_filter=arguments.filter,
            ima=arguments.ima or None,
        )
    )
    measure = replace(MEASURE_PRESETS[arguments.preset], **given(kron_factor=arguments.kron_factor))
    return RunParameters(read, detection, measure)
