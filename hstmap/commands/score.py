"""Judge a catalogue by the truth, or by another list of the same sources.

CATALOG is a run, or a file with a list of sources: Parquet, FITS, ECSV, CSV, VOTable, or a list by
SExtractor. TRUTH is such a file, too, or a folder with the tables that `hstmap simulate` writes.
Columns are found by their usual names (x, X_IMAGE, ra, ALPHA_J2000, mag_auto, MAG_AUTO, ...).

Says which share of the truth was found (completeness) and which share of what was found is true
(reliability), by signal to noise and by magnitude; how far positions and magnitudes are off, and
whether the errors of the fluxes are right (pulls).
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hstmap.cli import Console
    from hstmap.wfc3.score import Score

HELP = "judge a catalogue by the truth or by another list"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("catalog", metavar="CATALOG", help="a run, or a list of sources")
    parser.add_argument("--truth", required=True, metavar="FILE_OR_DIR", help="what to judge it by")
    parser.add_argument("--image", default="", metavar="ROOTNAME", help="this image only")
    matching = parser.add_argument_group("which sources are the same")
    matching.add_argument(
        "--by", choices=("pixel", "sky"), help="default: pixel where both lists have them"
    )
    matching.add_argument(
        "--radius", type=float, metavar="R", help="pixels (default: 2) or arcsec (default: 0.25)"
    )
    matching.add_argument(
        "--margin", type=float, default=5.0, metavar="PIXELS",
        help="leave out this much of the image's edges (default: %(default)g)",
    )  # fmt: skip
    compared = parser.add_argument_group("what is compared")
    compared.add_argument("--mag", default="", metavar="NAME", help="the catalogue's magnitudes")
    compared.add_argument("--truth-mag", default="", metavar="NAME", help="the truth's magnitudes")
    compared.add_argument(
        "--kind", choices=("star", "galaxy"), help="ask for these of the truth only"
    )
    compared.add_argument(
        "--isolation", type=float, default=0.0, metavar="R",
        help="measure only sources with no neighbour in the truth this near",
    )  # fmt: skip
    compared.add_argument(
        "--least-snr", type=float, default=2.0, metavar="SNR",
        help="leave out what the truth has below this (default: %(default)g)",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", action="append", default=[], metavar="FILE",
        help="a plot (.png, .pdf, .svg) or the table (.ecsv, .csv, .parquet); may be repeated",
    )  # fmt: skip


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Compare, and say how it went."""
    from hstmap.report.score_inputs import compare_all, read_inputs
    from hstmap.report.score_table import score_lines
    from hstmap.wfc3.compare import MatchParameters
    from hstmap.wfc3.score import score

    _check_outputs(arguments.output)
    parameters = MatchParameters(
        least_snr=arguments.least_snr,
        kind=arguments.kind or "",
        isolation=arguments.isolation,
        margin=arguments.margin,
    )
    inputs = read_inputs(
        arguments.catalog,
        arguments.truth,
        image=arguments.image,
        mag=arguments.mag,
        truth_mag=arguments.truth_mag,
    )
    comparisons, parameters = compare_all(inputs, arguments.by or "", arguments.radius, parameters)
    for rootname in inputs.without_reference:
        console.warn(f"{rootname}: {arguments.truth} has no truth about it; left out")
    result = score(comparisons, parameters)
    first, truth = inputs.pairs[0]
    n_matched = sum(len(each.pairs.first) for each in comparisons)
    unit = "pixels" if parameters.by == "pixel" else "arcsec"
    title = (
        f"{result.n_images:,} image{'s' * (result.n_images > 1)}, {n_matched:,} sources matched by "
        f"{parameters.by} within {parameters.radius:g} {unit}; "
        f"{first.sources.origin.get('mag', 'no magnitude')} against "
        f"{truth.origin.get('mag', 'no magnitude')}"
    )
    console.give(title)
    for line in score_lines(result):
        console.give(line)
    for file in arguments.output:
        _write(file, result, title)
        console.say(f"written   {file}")
    return 0


def _check_outputs(files: list[str]) -> None:
    """Refuse what cannot be written before anything is done."""
    from hstmap.errors import UsageError
    from hstmap.report.pictures import PICTURE_SUFFIXES
    from hstmap.report.score_table import TABLE_SUFFIXES

    known = (*PICTURE_SUFFIXES, *TABLE_SUFFIXES)
    for file in files:
        if not file.endswith(known):
            raise UsageError(
                f"{file} is no name for a plot or table: end it with {', '.join(known)}"
            )


def _write(file: str, result: Score, title: str) -> None:
    """Write a plot or a table, as the file's name says."""
    from hstmap.report.pictures import put_picture
    from hstmap.report.score_plot import draw_score
    from hstmap.report.score_table import TABLE_SUFFIXES, score_table, table_bytes
    from hstmap.storage import open_store, split_url

    if not file.endswith(TABLE_SUFFIXES):
        put_picture(draw_score(result, title=title), file)
        return
    root, key = split_url(file)
    open_store(root).put(key, table_bytes(score_table(result), file))
