"""`hstmap export` as it is called."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import Table
from regions import Regions

from hstmap.cli import main
from hstmap.storage import open_store
from hstmap.wfc3.schema import IMAGE_COLUMNS, SOURCE_COLUMNS
from support.runs import PLACES, REJECTED, WITHOUT_WCS, write_run

NAMES = [column.name for column in SOURCE_COLUMNS]


@pytest.fixture(scope="module")
def mapped(tmp_path_factory):
    """A run that is not reduced."""
    return write_run(tmp_path_factory.mktemp("mapped"))


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = write_run(tmp_path_factory.mktemp("reduced"))
    assert main(["reduce", str(folder), "--quiet"]) == 0
    return folder


@pytest.fixture(scope="module")
def sources(out):
    return pd.read_parquet(out / "sources.parquet")


def export(*arguments):
    return main(["export", *map(str, arguments)])


def assert_same(table, frame, names):
    assert table.colnames == names
    assert len(table) == len(frame)
    for name in names:
        found = table[name]
        if np.any(getattr(found, "mask", False)):
            found = found.filled(np.nan)
        expected = frame[name].to_numpy()
        if expected.dtype.kind == "f":
            # CSV does not say that a number is short.
            np.testing.assert_array_equal(np.asarray(found).astype(expected.dtype), expected)
        else:
            assert np.asarray(found).astype(str).tolist() == expected.astype(str).tolist()


@pytest.mark.parametrize("ending", [".vot", ".xml", ".ecsv", ".csv", ".fits", ".parquet"])
def test_one_image_in_every_format(mapped, sources, tmp_path, capsys, ending):
    file = tmp_path / "new" / f"one{ending}"
    assert export(mapped, "--image", "isim02a1q", "-o", file) == 0
    captured = capsys.readouterr()
    one = sources[sources["rootname"] == "isim02a1q"]
    assert captured.out == f"{file}: {len(one):,} sources\n"
    assert captured.err == ""
    kind = {".vot": "votable", ".xml": "votable", ".ecsv": "ascii.ecsv", ".csv": "ascii.csv"}
    table = Table.read(file, format=kind.get(ending, ending[1:]))
    assert_same(table, one, NAMES)
    if ending != ".csv":
        assert table["flux_auto"].unit == "1 / s"


def test_images_come_in_the_order_of_their_names_and_once(mapped, sources, tmp_path):
    file = tmp_path / "a.fits"
    chosen = ["isim04a1q", "isim01a1q"]
    arguments = ("--image", *chosen, "--image", "isim04a1q", "--columns", "rootname,number")
    assert export(mapped, *arguments, "-o", file, "--quiet") == 0
    expected = pd.concat([sources[sources["rootname"] == name] for name in chosen])
    assert_same(Table.read(file), expected, ["rootname", "number"])


@pytest.mark.parametrize("place", PLACES.values())
def test_a_cone_is_what_lies_near(out, sources, tmp_path, place):
    file = tmp_path / "cone.parquet"
    assert export(out, "--cone", *place, 5.5, "-o", file) == 0
    near = SkyCoord(*place, unit="deg").separation(
        SkyCoord(sources["ra"].fillna(0), sources["dec"].fillna(-45), unit="deg")
    )
    expected = sources[near.arcsec <= 5.5]
    assert len(expected) > 3
    assert_same(Table.read(file), expected, NAMES)
    assert_same(Table.from_pandas(pd.read_parquet(file)), expected, NAMES)


def test_without_a_choice_all_sources_are_written(out, sources, tmp_path):
    file = tmp_path / "all.csv"
    assert export(out, "-o", file) == 0
    assert_same(Table.from_pandas(pd.read_csv(file)), sources, NAMES)


@pytest.mark.parametrize("kind", ["votable", "ecsv", "csv", "reg"])
def test_text_goes_to_standard_output(mapped, tmp_path, capsys, kind):
    file = tmp_path / "file"
    assert export(mapped, "--image", "isim01a1q", "-o", file, "--format", kind) == 0
    capsys.readouterr()
    for quiet in ([], ["--quiet"]):
        assert export(mapped, "--image", "isim01a1q", "-o", "-", "--format", kind, *quiet) == 0
        captured = capsys.readouterr()
        assert captured.out.encode() == file.read_bytes()
        assert captured.err == ""


def test_nothing_in_a_cone_is_an_empty_table(out, capsys):
    arguments = ("--cone", 150, 2.5, 30, "--columns", "ra,dec", "-o", "-", "--format", "csv")
    assert export(out, *arguments) == 0
    captured = capsys.readouterr()
    assert captured.out == "ra,dec\n"
    assert captured.err == "no sources within 30 arcsec of 150 2.5: what is written has no rows\n"


def test_sextractors_names_count_from_one(out, sources, tmp_path):
    file = tmp_path / "a.ecsv"
    columns = "rootname,x_barycentre,YMAX_IMAGE,ra,snr,kron_radius"
    assert export(out, "--names", "sextractor", "--columns", columns, "-o", file) == 0
    table = Table.read(file)
    assert table.colnames == [
        "rootname", "X_IMAGE", "YMAX_IMAGE", "ALPHA_J2000", "snr", "KRON_RADIUS",
    ]  # fmt: skip
    np.testing.assert_array_equal(table["X_IMAGE"], sources["x_barycentre"] + 1)
    np.testing.assert_array_equal(table["YMAX_IMAGE"], sources["y_max"] + 1)
    np.testing.assert_array_equal(np.ma.filled(table["ALPHA_J2000"], np.nan), sources["ra"])
    np.testing.assert_array_equal(table["KRON_RADIUS"], sources["kron_radius"] * np.float32(2.5))


def test_regions_lie_on_the_sources(out, sources, tmp_path):
    file = tmp_path / "a.reg"
    assert export(out, "-o", file) == 0
    regions = list(Regions.read(file))
    assert len(regions) == len(sources)
    on_sky = np.isfinite(sources["ra"]).to_numpy()
    centres = SkyCoord([region.center for region, has in zip(regions, on_sky, strict=True) if has])
    there = SkyCoord(sources["ra"][on_sky], sources["dec"][on_sky], unit="deg")
    assert centres.separation(there).to_value("mas").max() < 0.1
    row = sources[sources["rootname"] == WITHOUT_WCS].iloc[0]
    first = regions[int(np.argmin(on_sky))]
    assert (first.center.x, first.center.y) == pytest.approx((row["x"], row["y"]), abs=1e-4)


def test_rows_of_images_and_their_outlines(out, tmp_path):
    rows = pd.read_parquet(out / "images.parquet")
    file = tmp_path / "images.fits"
    assert export(out, "--images", "-o", file) == 0
    table = Table.read(file)
    assert table.colnames == [column.name for column in IMAGE_COLUMNS]
    assert list(table["outcome"]) == rows["outcome"].tolist()
    assert REJECTED in table["rootname"]
    regions = tmp_path / "images.reg"
    assert export(out, "--images", "--cone", 0, 90, 20, "-o", regions) == 0
    (polygon,) = Regions.read(regions)
    assert polygon.meta["text"] == "isim03a1q"
    assert len(polygon.vertices) == 4


def test_files_of_s3_are_those_of_this_disk(out, tmp_path, s3_bucket):
    store = open_store(f"{s3_bucket}/run")
    for path in out.rglob("*"):
        if path.is_file():
            store.put(path.relative_to(out).as_posix(), path.read_bytes())
    for which in (["--image", "isim03a1q"], ["--cone", "0.0002", "12", "6"]):
        assert export(out, *which, "-o", tmp_path / "a.csv") == 0
        assert export(f"{s3_bucket}/run", *which, "-o", f"{s3_bucket}/made/a.csv") == 0
        made = open_store(s3_bucket).get("made/a.csv")
        assert made == (tmp_path / "a.csv").read_bytes()
        assert len(pd.read_csv(io.BytesIO(made))) > 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--image", "isim1a1q", "-o", "a.csv"], "no image 'isim1a1q'; it has isim01a1q"),
        (["--image", REJECTED, "-o", "a.csv"], f"{REJECTED} ended as rejected: "),
        (["--image", "isim01a1q", "-o", "a.doc"], "a.doc does not say its format: end its name"),
        (["--image", "isim01a1q", "-o", "-"], "give --format votable, ecsv, csv, reg"),
        (["--image", "isim01a1q", "-o", "-", "--format", "fits"], "fits is no text"),
        (["--image", "isim01a1q", "-o", "a.csv", "--columns", "flux"], "there is flux_"),
        (["--images", "-o", "a.csv", "--columns", "flux_auto"], "no column 'flux_auto'"),
        (["--image", "isim01a1q", "-o", "a.reg", "--columns", "ra"], "regions have no columns"),
        (["--image", "isim01a1q", "-o", "a.reg", "--names", "sextractor"], "no columns"),
        (["--cone", "1", "2", "3", "-o", "a.csv"], "`hstmap reduce {out}` first"),
        (["--images", "-o", "a.csv"], "has no summary yet"),
        (["-o", "a.csv"], "has no summary yet"),
        (["--cone", "1", "95", "3", "-o", "a.csv"], "the declination is 95"),
        (["--cone", "1", "-2", "-3", "-o", "a.csv"], "the radius is -3"),
        (["--cone", "1", "2", "3", "--image", "x", "-o", "a.csv"], "not allowed with"),
        (["--cone", "1", "2", "-o", "a.csv"], "expected 3 arguments"),
        (["--image", "isim01a1q"], "required: -o/--output"),
        (["--image", "isim01a1q", "-o", "{out}/run.json/a.csv"], "run.json"),
    ],
)
def test_what_cannot_be_exported_is_refused_in_one_line(
    mapped, tmp_path, monkeypatch, capsys, arguments, said
):
    monkeypatch.chdir(tmp_path)
    assert export(mapped, *(argument.format(out=mapped) for argument in arguments)) == 2
    captured = capsys.readouterr()
    assert said.format(out=mapped) in captured.err.splitlines()[-1]
    assert captured.err.startswith(("hstmap export: error: ", "usage: "))
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == []


def test_where_there_is_no_run_there_is_nothing_to_export(tmp_path, capsys):
    assert export(tmp_path, "--cone", 1, 2, 3, "-o", tmp_path / "a.csv") == 2
    assert "there is no run at" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_stays_if_the_new_one_cannot_be_made(mapped, tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("as it was")
    assert export(mapped, "--image", "nothing", "-o", file) == 2
    assert file.read_text() == "as it was"
    assert export(mapped, "--image", "isim01a1q", "-o", file) == 0
    assert file.read_text().startswith("rootname,")
    assert list(tmp_path.iterdir()) == [file]
