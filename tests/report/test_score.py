"""A score as lines, table and picture."""

from __future__ import annotations

import io

import matplotlib.image
import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.table import Table

from hstmap.errors import UsageError
from hstmap.report.score_plot import draw_score
from hstmap.report.score_table import TABLE_SUFFIXES, score_lines, score_table, table_bytes
from hstmap.wfc3.compare import MatchParameters, compare
from hstmap.wfc3.score import score
from hstmap.wfc3.source_list import make_source_list


def scored(*, with_brightness=True):
    generator = np.random.default_rng(5)
    n = 400
    x, y = generator.uniform(20, 480, (2, n))
    columns = {"x": x, "y": y}
    if with_brightness:
        flux = 10 ** generator.uniform(0.5, 2.5, n)
        columns |= {"mag_auto": 25 - 2.5 * np.log10(flux), "snr": flux, "flux_auto": flux}
    reference = make_source_list(columns)
    kept = np.arange(n) % 5 > 0
    found = {name: values[kept] for name, values in columns.items()}
    found["x"] = found["x"] + generator.normal(0, 0.02, kept.sum())
    if with_brightness:
        found["flux_auto"] = found["flux_auto"] + generator.normal(0, 1, kept.sum())
        found["flux_auto_err"] = np.ones(kept.sum())
    parameters = MatchParameters(radius=0.5)
    return score([compare(make_source_list(found), reference, parameters)], parameters)


def test_lines_say_every_bin_and_the_whole():
    result = scored()
    lines = score_lines(result)
    assert len(lines) == len(result.by_snr) + len(result.by_magnitude) + 1 + 3 + 2
    assert all(len(line) < 130 for line in lines)
    total = next(line for line in lines if "80.0%" in line and " to " not in line)
    assert "100.0%" in total
    at_10 = result.at_snr(10.0)
    (line,) = [line for line in lines if line.split()[:3] == [f"{at_10.low:g}", "to", "12.6"]]
    assert f"{at_10.completeness:.1%}" in line
    assert not any("nan" in line for line in lines)


def test_what_is_unknown_is_a_dash():
    lines = score_lines(scored(with_brightness=False))
    assert len(lines) == 3
    assert lines[1].split()[-4:] == ["-"] * 4


@pytest.mark.parametrize("suffix", TABLE_SUFFIXES)
def test_tables_hold_every_number_in_every_format(suffix):
    result = scored()
    table = score_table(result)
    data = table_bytes(table, f"score{suffix}")
    if suffix == ".parquet":
        arrow = pq.read_table(io.BytesIO(data))
        assert arrow.schema.field("distance").metadata[b"unit"] == b"pix"
        read = Table.from_pandas(arrow.to_pandas())
    else:
        read = Table.read(data.decode(), format="ascii" + suffix)
    assert read.colnames == table.colnames
    assert list(read["quantity"]) == list(table["quantity"])
    for name in table.colnames[1:]:
        np.testing.assert_allclose(
            np.ma.filled(read[name], np.nan), table[name], equal_nan=True, rtol=1e-12
        )
    row = read[list(read["quantity"]).index("total")]
    assert row["completeness"] == pytest.approx(0.8)
    assert row["completeness_low"] < 0.8 < row["completeness_high"]


def test_columns_are_described():
    table = score_table(scored())
    assert all(table[name].description for name in table.colnames)
    assert str(table["mag_bias"].unit) == "mag"
    assert table.meta["n_images"] == 1
    assert {"x_bias", "y_scatter"} <= set(table.meta)


def test_a_table_of_another_name_is_refused():
    with pytest.raises(UsageError, match=r"end it with \.ecsv"):
        table_bytes(score_table(scored()), "score.docx")


def drawn(result):
    file = io.BytesIO()
    draw_score(result, title="a title").savefig(file, format="png", dpi=50)
    file.seek(0)
    return matplotlib.image.imread(file)[..., :3]


def test_pictures_show_what_was_compared():
    full, bare = drawn(scored()), drawn(scored(with_brightness=False))
    blue = np.array([0x0B, 0x6F, 0xB8]) / 255
    assert (np.linalg.norm(full - blue, axis=2) < 0.1).sum() > 200
    # All panels but none of the curves: nothing is known of brightness.
    assert (np.linalg.norm(bare - blue, axis=2) < 0.1).sum() == 0


def test_a_picture_has_six_panels_with_names():
    figure = draw_score(scored(), title="a title")
    assert len(figure.axes) == 6
    assert all(axes.get_xlabel() and axes.get_ylabel() for axes in figure.axes)
    completeness = figure.axes[0].containers[0].lines[0].get_ydata()
    assert np.mean(completeness) == pytest.approx(0.8, abs=0.05)
