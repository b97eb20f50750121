"""Make simulated WFC3/IR images with tables of the truth, to try and to judge catalogues with.

Writes {rootname}_flt.fits (or _drz.fits) and {rootname}_truth.ecsv, over what is there under these
names. The files have the structure, the distortion, the noise and the defects of the archive's.
The same arguments give the same bytes.

To judge a catalogue of them: hstmap map DIR -o OUT, then hstmap score OUT --truth DIR.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hstmap.cli import Console
    from hstmap.wfc3.simulate import SceneParameters, SimulatedImage

HELP = "make simulated images with tables of the truth"

_SCENES = ("sparse", "normal", "crowded", "cluster")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "-o", "--out", required=True, metavar="DIR", help="folder or s3://bucket/prefix"
    )
    parser.add_argument("--n", type=int, default=1, metavar="N", help="fields (default: 1)")
    parser.add_argument(
        "--scene", default="normal", choices=_SCENES, help="kind of field (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="of the first field; the next ones follow (default: 1)"
    )
    exposure = parser.add_argument_group("how the field is seen (default: as the scene has it)")
    exposure.add_argument("--filter", metavar="NAME", help="F098M, F105W, ... F160W")
    exposure.add_argument("--exposure", type=float, metavar="SECONDS")
    exposure.add_argument("--n-samples", type=int, metavar="N", help="reads up the ramp, 2 to 16")
    exposure.add_argument(
        "--subarray", type=int, choices=(64, 128, 256, 512), help="side of a subarray, pixels"
    )
    exposure.add_argument(
        "--dither", type=float, nargs=2, action="append", metavar=("DX", "DY"),
        help="an exposure moved along the detector's axes, arcsec; may be repeated",
    )  # fmt: skip
    exposure.add_argument(
        "--drz", action="store_true", help="drizzle the exposures of a field into one product"
    )
    field = parser.add_argument_group("what is in the field (default: as the scene has it)")
    field.add_argument("--n-stars", type=int, metavar="N", help="stars in a full frame")
    field.add_argument("--n-galaxies", type=int, metavar="N", help="galaxies in a full frame")
    field.add_argument(
        "--separation", type=float, metavar="ARCSEC", help="least distance between two sources"
    )
    field.add_argument("--sky", type=float, metavar="E_S", help="background, e-/s a pixel")
    spoiling = parser.add_argument_group("what spoils it")
    spoiling.add_argument(
        "--cosmic-ray-rate", type=float, metavar="HITS", help="a second, on a full frame"
    )
    spoiling.add_argument(
        "--bad-pixels", action=argparse.BooleanOptionalAction, help="hot, dead and unstable ones"
    )
    spoiling.add_argument(
        "--blobs", action=argparse.BooleanOptionalAction, help="shadows of particles on the mirror"
    )
    spoiling.add_argument(
        "--noise", action=argparse.BooleanOptionalAction, help="noise of any kind"
    )


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Simulate, one image after the other."""
    from hstmap.errors import UsageError
    from hstmap.sample import put_simulated
    from hstmap.storage import open_store

    if arguments.n < 1:
        raise UsageError(f"--n is {arguments.n}; give 1 or more")
    scenes = list(_scenes(arguments))  # checked before anything is written
    store = open_store(arguments.out)
    for image in _images(scenes, arguments):
        put_simulated(store, image)
        console.say(
            f"{store.url}/{image.filename}: {image.truth.meta['FILTER']}, "
            f"{image.truth.meta['EXPTIME']:g} s, {len(image.truth):,} sources"
        )
    return 0


def _scenes(arguments: argparse.Namespace) -> Iterator[SceneParameters]:
    """Put the options over the scene, for one field after the other."""
    from dataclasses import replace

    from hstmap.wfc3.simulate_scene import scene

    options: dict[str, Any] = {
        "filter_name": arguments.filter and arguments.filter.upper(),
        "exposure_s": arguments.exposure,
        "n_samples": arguments.n_samples,
        "subarray": arguments.subarray,
        "n_stars": arguments.n_stars,
        "n_galaxies": arguments.n_galaxies,
        "separation_arcsec": arguments.separation,
        "sky_e_s": arguments.sky,
        "cosmic_ray_rate": arguments.cosmic_ray_rate,
        "bad_pixels": arguments.bad_pixels,
        "blobs": arguments.blobs,
        "noise": arguments.noise,
    }
    given = {name: value for name, value in options.items() if value is not None}
    for number in range(arguments.n):
        yield replace(scene(arguments.scene), seed=arguments.seed + number, **given)


def _images(
    scenes: list[SceneParameters], arguments: argparse.Namespace
) -> Iterator[SimulatedImage]:
    """Expose each field as often as there are dithers."""
    from hstmap.wfc3.simulate import sample_rootname, simulate_dithers, simulate_drz

    offsets = [(dx, dy) for dx, dy in arguments.dither or [(0.0, 0.0)]]
    for number, parameters in enumerate(scenes):
        if arguments.drz:
            yield simulate_drz(parameters, f"isim{number + 1:04d}0", offsets)
            continue
        for nth, offset in enumerate(offsets):
            rootname = sample_rootname(number * len(offsets) + nth)
            yield from simulate_dithers(parameters, [offset], [rootname])
