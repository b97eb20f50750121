"""Region files as the package `regions` reads them."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS
from regions import EllipsePixelRegion, EllipseSkyRegion, PolygonSkyRegion, Regions

from hstmap.report.regions import IMAGE_NAMES, SOURCE_NAMES, image_regions, source_regions
from hstmap.wfc3.parameters import MeasureParameters

PIXEL_ARCSEC = 0.1
PARAMETERS = MeasureParameters(kron_factor=2.0, min_kron_radius=3.5)
#: x, y, a, b, theta, kron_radius: large, small, without light, and on its side.
SHAPES = [
    (10.0, 20.0, 4.0, 2.0, 30.0, 2.5),
    (50.5, 60.25, 0.8, 0.5, -20.0, 1.5),
    (80.0, 3.0, 3.0, 2.0, 70.0, 0.0),
    (30.0, 90.0, 6.0, 1.5, -89.0, 3.0),
]
#: Semi-axes of their apertures, by hand: twice the Kron radius, or a circle of 3.5 pixels.
AXES = [(20.0, 10.0), (3.5, 3.5), (3.5, 3.5), (36.0, 9.0)]


def sky(rotation):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [0.001, 65.0]
    wcs.wcs.crpix = [50.0, 50.0]
    sine, cosine = np.sin(np.radians(rotation)), np.cos(np.radians(rotation))
    wcs.wcs.cd = (
        np.array([[cosine, -sine], [sine, cosine]]) @ np.diag([-1, 1]) * (PIXEL_ARCSEC / 3600)
    )
    wcs.wcs.set()
    return wcs


def sources(wcs=None):
    x, y, a, b, theta, kron_radius = np.array(SHAPES).T
    nothing = np.full(len(x), np.nan)
    values = {
        "rootname": np.array(["isim01a1q"] * len(x), object), "number": np.arange(len(x)) + 1,
        "x": x, "y": y, "ra": nothing, "dec": nothing, "a": a.astype("f4"), "b": b.astype("f4"),
        "theta": theta.astype("f4"), "position_angle": nothing.astype("f4"),
        "kron_radius": kron_radius.astype("f4"), "pixel_scale": nothing.astype("f4"),
    }  # fmt: skip
    if wcs is not None:
        here = wcs.pixel_to_world(x, y)
        ahead = wcs.pixel_to_world(x + np.cos(np.radians(theta)), y + np.sin(np.radians(theta)))
        values |= {
            "ra": here.ra.deg, "dec": here.dec.deg,
            "position_angle": (here.position_angle(ahead).deg % 180).astype("f4"),
            "pixel_scale": np.full(len(x), PIXEL_ARCSEC, "f4"),
        }  # fmt: skip
    assert set(values) == set(SOURCE_NAMES)
    return values


def parse(content):
    return list(Regions.parse(content.decode(), format="ds9"))


@pytest.mark.parametrize("rotation", [0, 33, 150, 270])
def test_ellipses_on_the_sky_are_those_of_the_pixels(rotation):
    wcs = sky(rotation)
    regions = parse(source_regions(sources(wcs), PARAMETERS))
    assert len(regions) == len(SHAPES)
    for i, region in enumerate(regions):
        assert isinstance(region, EllipseSkyRegion)
        assert region.center.frame.name == "icrs"
        pixels = region.to_pixel(wcs)
        x, y, _, _, theta, _ = SHAPES[i]
        assert (pixels.center.x, pixels.center.y) == pytest.approx((x, y), abs=1e-3)
        assert (pixels.width / 2, pixels.height / 2) == pytest.approx(AXES[i], abs=2e-3)
        turned = (pixels.angle.to_value("deg") - theta + 90) % 180 - 90
        assert turned == pytest.approx(0, abs=0.01)
        assert region.meta["tag"] == ["isim01a1q", f"isim01a1q {i + 1}"]


def test_without_a_place_on_the_sky_they_are_in_pixels():
    regions = parse(source_regions(sources(), PARAMETERS))
    for region, shape, axes in zip(regions, SHAPES, AXES, strict=True):
        assert isinstance(region, EllipsePixelRegion)
        # DS9 counts from 1, and the reader takes that 1 off again.
        assert (region.center.x, region.center.y) == pytest.approx(shape[:2])
        assert (region.width / 2, region.height / 2) == pytest.approx(axes)
        assert region.angle.to_value("deg") == pytest.approx(shape[4])
    assert (
        "ellipse(11.0000,21.0000,20.0000,10.0000,30.000)"
        in source_regions(sources(), PARAMETERS).decode()
    )


def test_systems_may_change_within_a_file():
    with_sky, without = sources(sky(10)), sources()
    both = {name: np.concatenate([with_sky[name], without[name]] * 2) for name in SOURCE_NAMES}
    kinds = [type(region) for region in parse(source_regions(both, PARAMETERS))]
    n = len(SHAPES)
    assert kinds == ([EllipseSkyRegion] * n + [EllipsePixelRegion] * n) * 2


def test_outlines_of_images():
    outline = "POLYGON ICRS 10.5 -0.25 10.25 -0.25 10.25 0.125 10.5 0.125"
    rows = [("a", "ok", outline), ("b", "rejected", ""), ("c", "empty", outline)]
    columns = dict(zip(IMAGE_NAMES, np.array(rows, object).T, strict=True))
    regions = parse(image_regions(columns))
    assert [region.meta["text"] for region in regions] == ["a", "c"]
    assert [region.meta["tag"] for region in regions] == [["ok"], ["empty"]]
    corners = SkyCoord([10.5, 10.25, 10.25, 10.5], [-0.25, -0.25, 0.125, 0.125], unit="deg")
    for region in regions:
        assert isinstance(region, PolygonSkyRegion)
        assert region.vertices.separation(corners).arcsec.max() < 1e-6


def test_no_rows_no_regions():
    nothing = {name: values[:0] for name, values in sources().items()}
    content = source_regions(nothing, PARAMETERS)
    assert content.startswith(b"# Region file format: DS9")
    assert parse(content) == []
    assert parse(image_regions({name: np.empty(0, object) for name in IMAGE_NAMES})) == []
