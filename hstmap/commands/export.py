"""Write sources of a run as VOTable, ECSV, CSV, FITS, Parquet or DS9 regions, by the file's ending.

Of some images (--image; from their parts, before `hstmap reduce` too), of a cone (--cone), or all.
Units, UCDs and descriptions go with them into every format but CSV. Regions are the ellipses that
flux_auto was summed in. With --images, a row or outline for each image instead.

The names of --names sextractor mean what they mean there: positions count pixels from 1,
KRON_RADIUS is the size of the aperture, FLAGS has SExtractor's bits. Columns that SExtractor does
not have keep their names.

What is written is made in memory: for all of a large run, open its sources.parquet instead.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from hstmap.cli import Console
    from hstmap.report.cone import Cone
    from hstmap.report.results import RunResults

HELP = "write sources for other programs"

_FORMATS = ("votable", "ecsv", "csv", "fits", "parquet", "reg")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("out", metavar="OUT", help="folder or s3://bucket/prefix of the run")
    parser.add_argument(
        "-o", "--output", required=True, metavar="FILE",
        help="ends with .vot, .xml, .ecsv, .csv, .fits, .parquet or .reg; -: standard output",
    )  # fmt: skip
    parser.add_argument("--format", choices=_FORMATS, help="default: what FILE ends with")
    which = parser.add_argument_group("which rows").add_mutually_exclusive_group()
    which.add_argument(
        "--image", nargs="+", action="extend", default=[], metavar="ROOTNAME",
        help="of these images",
    )  # fmt: skip
    which.add_argument(
        "--cone", nargs=3, type=float, metavar=("RA", "DEC", "RADIUS"),
        help="within RADIUS arcsec of RA DEC, degrees (ICRS)",
    )  # fmt: skip
    what = parser.add_argument_group("which columns")
    what.add_argument("--columns", metavar="A,B,C", help="by name (default: all but _healpix_29)")
    what.add_argument(
        "--names", choices=("hstmap", "sextractor"), default="hstmap",
        help="whose names columns have (default: %(default)s)",
    )  # fmt: skip
    what.add_argument(
        "--images", action="store_true", help="the images (of the cone: those that it touches)"
    )


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Read the rows and write them."""
    from hstmap.report.cone import Cone
    from hstmap.report.export import choose_format
    from hstmap.report.results import RunResults

    kind = choose_format(arguments.output, arguments.format)
    cone = Cone(*arguments.cone) if arguments.cone else None
    results = RunResults(arguments.out)
    if kind == "reg":
        content, n_rows = _regions(arguments, results, cone)
    else:
        content, n_rows = _table(arguments, results, cone, kind)
    _write(arguments.output, content, console)
    rows = "images" if arguments.images else "sources"
    if n_rows == 0:
        place = f" within {cone}" if cone else ""
        console.warn(f"no {rows}{place}: what is written has no rows")
    elif arguments.output != "-":
        console.say(f"{arguments.output}: {n_rows:,} {rows}")
    return 0


def _rows(
    arguments: argparse.Namespace, results: RunResults, cone: Cone | None, names: list[str]
) -> dict[str, np.ndarray]:
    """Read columns of the rows that are asked for."""
    from hstmap.report.selection import images, sources_of_images, sources_of_summary
    from hstmap.storage import open_store

    rootnames = list(dict.fromkeys(arguments.image))
    if arguments.images:
        return images(open_store(arguments.out), names, rootnames or cone)
    if rootnames:
        return sources_of_images(results, rootnames, names)
    return sources_of_summary(open_store(arguments.out), names, cone)


def _table(
    arguments: argparse.Namespace, results: RunResults, cone: Cone | None, kind: str
) -> tuple[bytes, int]:
    """Write a table; also say how many rows it has."""
    import hstmap
    from hstmap.report.export import ExportTable, choose_columns, to_bytes
    from hstmap.report.sextractor import as_sextractor
    from hstmap.wfc3.schema import IMAGE_COLUMNS, SOURCE_COLUMNS, SUMMARY_COLUMNS

    known = IMAGE_COLUMNS if arguments.images else (*SOURCE_COLUMNS, *SUMMARY_COLUMNS)
    columns = choose_columns(known, arguments.columns)
    values = _rows(arguments, results, cone, [column.name for column in columns])
    origin = {"ORIGIN": f"hstmap {hstmap.__version__}", "RUN": results.url}
    if cone:
        origin["CONE"] = str(cone)
    name = "IMAGES" if arguments.images else "SOURCES"
    table = ExportTable(name, columns, values, origin)
    if arguments.names == "sextractor":
        table = as_sextractor(table, results.parameters.measure.kron_factor)
    return to_bytes(table, kind), len(table)


def _regions(
    arguments: argparse.Namespace, results: RunResults, cone: Cone | None
) -> tuple[bytes, int]:
    """Write regions; also say how many rows they are made of."""
    from hstmap.errors import UsageError
    from hstmap.report.regions import IMAGE_NAMES, SOURCE_NAMES, image_regions, source_regions

    if arguments.columns is not None or arguments.names != "hstmap":
        raise UsageError("regions have no columns: leave out --columns and --names")
    if arguments.images:
        values = _rows(arguments, results, cone, list(IMAGE_NAMES))
        return image_regions(values), len(values["rootname"])
    values = _rows(arguments, results, cone, list(SOURCE_NAMES))
    return source_regions(values, results.parameters.measure), len(values["rootname"])


def _write(file: str, content: bytes, console: Console) -> None:
    """Write the whole file, or none."""
    from hstmap.storage import open_store, split_url

    if file == "-":
        console.give(content.decode().removesuffix("\n"))
        return
    root, key = split_url(file)
    open_store(root).put(key, content)
