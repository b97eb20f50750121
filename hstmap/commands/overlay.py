"""Draw an image of a run with its sources, as a PNG (or PDF, SVG: by the file's name)."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hstmap.cli import Console

HELP = "draw an image of a run with its sources"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    from hstmap.commands.numbers import positive

    parser.add_argument("out", metavar="OUT", help="folder or s3://bucket/prefix of the run")
    parser.add_argument("rootname", metavar="ROOTNAME", help="which image")
    parser.add_argument("-o", "--output", metavar="FILE", help="default: ROOTNAME.png")
    parser.add_argument(
        "--stretch", choices=("zscale", "asinh"), default="zscale", help="default: %(default)s"
    )
    parser.add_argument("--dpi", type=positive, default=100, help="default: %(default)s")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Draw the picture."""
    from hstmap.bag.render import count
    from hstmap.report.overlay import draw_overlay
    from hstmap.report.pictures import check_picture_name, put_picture
    from hstmap.report.results import RunResults

    file = arguments.output or f"{arguments.rootname}.png"
    check_picture_name(file)
    results = RunResults(arguments.out)
    row = results.image(arguments.rootname)
    image = results.read_image(row)
    sources = results.sources_of(row)
    # Cut-outs may say nothing of these.
    exposure = "" if row["exposure_s"] is None else f"{row['exposure_s']:.0f} s"
    known = [row["rootname"], row["filter"], exposure, row["target"]]
    figure = draw_overlay(
        image,
        sources,
        title="  ".join(filter(None, [*known, count(len(sources), "source")])),
        kron_factor=results.parameters.measure.kron_factor,
        stretch=arguments.stretch,
    )
    put_picture(figure, file, arguments.dpi)
    console.say(f"{file}: {count(len(sources), 'source')} of {row['key']}")
    return 0
