"""The commands that make truth and judge by it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from hstmap.cli import main
from hstmap.storage import open_store


def hstmap(*arguments):
    return main([str(argument) for argument in arguments])


SMALL = ("--subarray", 128, "--scene", "normal", "--n-stars", 3000)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated")
    assert hstmap("simulate", "-o", folder, "--n", 2, *SMALL, "--quiet") == 0
    return folder


@pytest.fixture(scope="module")
def run(simulated, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "out"
    assert hstmap("map", simulated, "-o", out, "--engine", "inprocess", "--quiet") == 0
    return out


# -- simulate ------------------------------------------------------------------------------------


def test_images_come_with_their_truth(simulated):
    names = sorted(path.name for path in simulated.iterdir())
    assert names == [
        "isim01a1q_flt.fits", "isim01a1q_truth.ecsv", "isim01a2q_flt.fits", "isim01a2q_truth.ecsv",
    ]  # fmt: skip
    truth = Table.read(simulated / "isim01a1q_truth.ecsv")
    assert {"id", "kind", "x", "y", "ra", "dec", "mag_ab", "snr"} <= set(truth.colnames)
    with fits.open(simulated / "isim01a1q_flt.fits") as hdus:
        x, y = WCS(hdus["SCI"].header).all_world2pix(truth["ra"], truth["dec"], 0)
        assert hdus["SCI"].data.shape == (128, 128)
    np.testing.assert_allclose(x, truth["x"], atol=1e-3)
    np.testing.assert_allclose(y, truth["y"], atol=1e-3)


def test_fields_differ_and_the_same_arguments_give_the_same_bytes(simulated, tmp_path):
    first, second = (simulated / f"isim01a{i}q_flt.fits" for i in (1, 2))
    assert first.read_bytes() != second.read_bytes()
    assert hstmap("simulate", "-o", tmp_path, *SMALL, "--quiet") == 0
    assert (tmp_path / first.name).read_bytes() == first.read_bytes()
    assert hstmap("simulate", "-o", tmp_path, *SMALL, "--seed", 2, "--quiet") == 0
    stars = Table.read(tmp_path / "isim01a1q_truth.ecsv")
    np.testing.assert_array_equal(
        stars["mag_ab"], Table.read(simulated / "isim01a2q_truth.ecsv")["mag_ab"]
    )


def test_dithers_move_the_field_by_what_was_asked_for(tmp_path, capsys):
    dithers = ("--dither", 0, 0, "--dither", -2.5, 1.5)
    assert hstmap("simulate", "-o", tmp_path, *SMALL, *dithers) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    first, second = (
        Table.read(tmp_path / f"isim01a{i}q_truth.ecsv").to_pandas().set_index("id") for i in (1, 2)
    )
    both = first.merge(second, on="id", suffixes=("", "_2"))
    assert len(both) > 5
    assert np.median(both["x_2"] - both["x"]) == pytest.approx(-2.5 / 0.1354, abs=0.3)
    assert np.median(both["y_2"] - both["y"]) == pytest.approx(1.5 / 0.1210, abs=0.3)
    np.testing.assert_array_equal(both["ra"], both["ra_2"])


def test_exposures_are_drizzled_into_one_product(tmp_path):
    dithers = ("--dither", 0, 0, "--dither", 0.5, 0.3)
    assert hstmap("simulate", "-o", tmp_path, *SMALL, *dithers, "--drz", "--quiet") == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "isim00010_drz.fits", "isim00010_truth.ecsv",
    ]  # fmt: skip
    assert fits.getheader(tmp_path / "isim00010_drz.fits")["NDRIZIM"] == 2


def test_options_reach_the_files(tmp_path, capsys):
    assert hstmap(
        "simulate", "-o", tmp_path, *SMALL, "--filter", "f105w", "--exposure", 77, "--no-noise",
        "--no-bad-pixels", "--no-blobs", "--sky", 2.0, "--n-galaxies", 0,
    ) == 0  # fmt: skip
    assert re.search(r"isim01a1q_flt\.fits: F105W, 77 s, \d+ sources", capsys.readouterr().out)
    with fits.open(tmp_path / "isim01a1q_flt.fits") as hdus:
        assert hdus[0].header["FILTER"] == "F105W"
        assert np.median(hdus["SCI"].data) == pytest.approx(2.0, rel=0.02)
        assert hdus["SCI"].data[:5, :5].std() < 0.05
    assert set(Table.read(tmp_path / "isim01a1q_truth.ecsv")["kind"]) == {"star"}


def test_images_can_be_written_to_s3(s3_bucket):
    assert hstmap("simulate", "-o", f"{s3_bucket}/sim", *SMALL, "--quiet") == 0
    keys = {info.key for info in open_store(f"{s3_bucket}/sim").list("")}
    assert keys == {"isim01a1q_flt.fits", "isim01a1q_truth.ecsv"}


# -- score ---------------------------------------------------------------------------------------


def test_a_run_is_judged_by_its_truth(run, simulated, capsys):
    assert hstmap("score", run, "--truth", simulated, "--kind", "star", "--mag", "mag_point") == 0
    title, *lines = capsys.readouterr().out.splitlines()
    assert re.match(r"2 images, \d+ sources matched by pixel within 2 pixels", title)
    assert "mag_point against mag_ab" in title
    bright = [line for line in lines if line.lstrip().startswith("50.1 to 79.4")]
    assert len(bright) == 1
    assert float(bright[0].split("%")[0].split()[-1]) > 80
    assert any(line.startswith("pulls of") for line in lines)


def test_quiet_still_gives_the_score_that_was_asked_for(run, simulated, tmp_path, capsys):
    plot = tmp_path / "score.png"
    assert hstmap("score", run, "--truth", simulated, "--quiet", "-o", plot) == 0
    captured = capsys.readouterr()
    assert "sources matched" in captured.out
    assert "written" not in captured.out
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_plots_and_tables_are_written_as_they_are_named(run, simulated, tmp_path):
    files = [tmp_path / name for name in ("a.svg", "b.pdf", "c.ecsv", "d.csv", "e.parquet")]
    outputs = [argument for file in files for argument in ("-o", file)]
    assert hstmap("score", run, "--truth", simulated, *outputs) == 0
    assert files[0].read_text().lstrip().startswith("<?xml")
    assert files[1].read_bytes().startswith(b"%PDF")
    shares = [
        Table.read(files[2])["completeness"], Table.read(files[3])["completeness"],
        pd.read_parquet(files[4])["completeness"],
    ]  # fmt: skip
    for other in shares[1:]:
        np.testing.assert_allclose(
            np.ma.filled(other, np.nan),
            shares[0].filled(np.nan) if hasattr(shares[0], "filled") else shares[0],
        )


def test_an_images_own_catalogue_gives_the_score_of_the_run(run, simulated, capsys):
    truth = simulated / "isim01a2q_truth.ecsv"
    arguments = ("--truth", truth, "--margin", 0)
    assert hstmap("score", run, "--image", "isim01a2q", *arguments) == 0
    of_run = capsys.readouterr().out
    assert hstmap("score", run, *arguments) == 0  # the truth's name says which image it is of
    assert capsys.readouterr().out == of_run
    assert hstmap("score", run / "catalogs" / "isim01a2q_cat.fits", *arguments) == 0
    matched = r"(\d+) sources matched"
    assert re.search(matched, capsys.readouterr().out)[1] == re.search(matched, of_run)[1]
    assert hstmap("score", run / "sources.parquet", "--truth", simulated, "--margin", 0) == 0
    assert "2 images" in capsys.readouterr().out


def test_positions_on_the_sky_judge_as_pixels_do(run, simulated, tmp_path, capsys):
    truth = Table.read(simulated / "isim01a1q_truth.ecsv")
    only_sky = tmp_path / "sky.csv"
    truth["ra", "dec", "mag_ab", "snr"].write(only_sky, format="ascii.csv")
    counts = []
    for given in (simulated / "isim01a1q_truth.ecsv", only_sky):
        arguments = ("--image", "isim01a1q", "--by", "sky", "--radius", 0.25)
        assert hstmap("score", run, "--truth", given, *arguments) == 0
        counts.append(re.search(r"(\d+) sources matched by sky", capsys.readouterr().out)[1])
    assert counts[0] == counts[1]
    assert int(counts[0]) > 5


def test_images_without_truth_are_named_and_left_out(run, simulated, tmp_path, capsys):
    name = "isim01a1q_truth.ecsv"
    (tmp_path / name).write_bytes((simulated / name).read_bytes())
    assert hstmap("score", run, "--truth", tmp_path) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("1 image,")
    assert "isim01a2q" in captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score", "{run}"], "required: --truth"),
        (["score", "{run}", "--truth", "{tmp}"], "expected {{rootname}}_truth.ecsv"),
        (["score", "{tmp}", "--truth", "{sim}"], "there is no run at {tmp}"),
        (["score", "{run}", "--truth", "{sim}", "-o", "a.docx"], "a.docx is no name"),
        (["score", "{run}", "--truth", "{sim}", "--radius", "0"], "radius is 0.0"),
        (["score", "{run}", "--truth", "{sim}", "--mag", "mag_best"], "mag_best"),
        (["score", "{run}", "--truth", "{sim}", "--image", "nope"], "no image 'nope'"),
        (["score", "{run}", "--truth", "{tmp}/none.cat"], "none.cat"),
        (["score", "{run}", "--truth", "{tmp}/pixels.csv"], "--image ROOTNAME"),
        (["score", "{run}", "--truth", "{tmp}/names.csv"], "says where its sources are"),
        (["simulate"], "-o/--out"),
        (["simulate", "-o", "{tmp}/x", "--n", "0"], "--n is 0"),
        (["simulate", "-o", "{tmp}/x", "--filter", "F814W"], "F814W"),
        (["simulate", "-o", "{tmp}/x", "--exposure", "0"], "exposure of 0.0 s"),
        (["simulate", "-o", "{tmp}/x", "--scene", "empty"], "invalid choice: 'empty'"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(run, simulated, tmp_path, capsys, arguments,
                                                    message):  # fmt: skip
    places = {"run": run, "sim": simulated, "tmp": tmp_path}
    (tmp_path / "pixels.csv").write_text("x,y,mag\n1,2,20\n")
    (tmp_path / "names.csv").write_text("name,mag\na,20\n")
    assert main([argument.format(**places) for argument in arguments]) == 2
    captured = capsys.readouterr()
    last = captured.err.strip().splitlines()[-1]
    assert message.format(**places) in last
    assert "Traceback" not in captured.err
    assert not (tmp_path / "x").exists()
    assert not Path("a.docx").exists()
