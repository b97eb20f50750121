"""Headers of many files through an engine into one table."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from astropy.io import fits

from hstmap import fits_info
from hstmap.archive.manifest import Manifest
from hstmap.bag.engine import EngineOptions, InProcessEngine
from hstmap.errors import ConservationError, TaskError
from hstmap.fits_info import InfoBatch, InfoOptions, run_info, run_info_batch
from hstmap.storage import StorageOptions, open_store


def fits_bytes(n_extensions, **cards):
    hdus = fits.HDUList([fits.PrimaryHDU(header=fits.Header(list(cards.items())))])
    for number in range(n_extensions):
        hdus.append(fits.ImageHDU(np.zeros((40, 50), "f4"), name="SCI", ver=number + 1))
    file = io.BytesIO()
    hdus.writeto(file)
    return file.getvalue()


@pytest.fixture
def manifest(tmp_path):
    """Seven files of 1 to 4 HDUs, one that is not FITS, and one that is not there."""
    store = open_store(str(tmp_path / "from"))
    rows = []
    for number in range(7):
        store.put(f"f{number}_flt.fits", fits_bytes(number % 4, EXPTIME=number + 0.5, NSAMP=number))
    store.put("f7_flt.fits", b"not FITS at all")
    rows = [{"rootname": f"f{n}", "key": f"f{n}_flt.fits"} for n in range(9)]
    return Manifest.from_rows(rows, store=store.url)


@pytest.fixture
def engine():
    with InProcessEngine(EngineOptions(retries=0)) as engine:
        yield engine


def options(**values):
    return InfoOptions(**{"batch_size": 2} | values)


def test_one_row_for_each_hdu_of_every_file(manifest, engine, tmp_path):
    result = run_info(manifest, str(tmp_path / "out"), engine, options())
    table = pd.read_parquet(result.url)
    n_hdus = [number % 4 + 1 for number in range(7)]
    assert table.groupby("file", sort=False).size().tolist() == [*n_hdus, 1, 1]
    assert table["file"].drop_duplicates().tolist() == manifest.urls
    assert (result.n_files, result.n_rows, result.n_errors) == (9, sum(n_hdus) + 2, 2)


def test_errors_are_rows(manifest, engine, tmp_path):
    table = pd.read_parquet(run_info(manifest, str(tmp_path / "out"), engine, options()).url)
    errors = table[table["error"] != ""].set_index("file")["error"]
    assert "not with SIMPLE" in errors[manifest.urls[7]]
    assert "no such object" in errors[manifest.urls[8]]


def test_keywords_have_the_type_that_their_values_have(manifest, engine, tmp_path):
    asked = options(keywords=("EXPTIME", "NSAMP", "EXTNAME", "ABSENT"))
    table = pq.read_table(run_info(manifest, str(tmp_path / "out"), engine, asked).url)
    types = {name: str(table.schema.field(name).type) for name in asked.keywords}
    assert types == {"EXPTIME": "double", "NSAMP": "int64", "EXTNAME": "string", "ABSENT": "null"}
    primaries = table.to_pandas().query("hdu == 0")
    assert primaries["EXPTIME"].tolist() == [number + 0.5 for number in range(7)]


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([1, None, 2], "int64", [1, None, 2]),
        ([1, 2.5], "double", [1.0, 2.5]),
        ([True, None], "bool", [True, None]),
        (["a", 1, None], "string", ["a", "1", None]),
        ([True, 2], "string", ["True", "2"]),
        ([2**70, None], "string", [str(2**70), None]),
        ([None], "null", [None]),
    ],
)
def test_columns_of_keywords(values, kind, expected):
    column = fits_info._keyword_column(values)
    assert str(column.type) == kind
    assert column.to_pylist() == expected


def test_a_call_goes_on_where_the_last_one_was(manifest, engine, tmp_path):
    out = str(tmp_path / "out")
    first = run_info(manifest, out, engine, options())
    before = (tmp_path / "out" / "info.parquet").read_bytes()
    parts = sorted((tmp_path / "out" / "info").iterdir())
    parts[0].unlink()
    second = run_info(manifest, out, engine, options())
    assert first.n_read == 9
    assert second.n_read in (1, 2)
    assert (tmp_path / "out" / "info.parquet").read_bytes() == before


def test_other_keywords_are_read_anew(manifest, engine, tmp_path):
    out = str(tmp_path / "out")
    run_info(manifest, out, engine, options())
    assert run_info(manifest, out, engine, options(keywords=("NSAMP",))).n_read == 9
    assert run_info(manifest, out, engine, options(overwrite=True)).n_read == 9
    assert run_info(manifest, out, engine, options()).n_read == 0


def test_batches_are_told_of(manifest, engine, tmp_path):
    told = []
    run_info(manifest, str(tmp_path), engine, options(on_batch=lambda *counts: told.append(counts)))
    assert len(told) == 5
    assert sum(n_files for n_files, _ in told) == 9


def test_headers_only_are_read(engine, tmp_path):
    """Of a file with one megabyte of pixels, its headers and no more than a first fetch."""
    store = open_store(f"memory://{tmp_path.name}")
    hdus = fits.HDUList([fits.PrimaryHDU()])
    for version in range(4):
        hdus.append(fits.ImageHDU(np.zeros((1024, 1024), "f4"), name="SCI", ver=version + 1))
    file = io.BytesIO()
    hdus.writeto(file)
    store.put("big_flt.fits", file.getvalue())
    manifest = Manifest.from_rows([{"rootname": "big", "key": "big_flt.fits"}], store=store.url)
    result = run_info(manifest, f"memory://{tmp_path.name}-out", engine, options())
    assert result.nbytes_files == len(file.getvalue())
    assert result.requests.nbytes_read < 0.05 * result.nbytes_files
    assert result.requests.n_get <= 5


def test_a_batch_that_cannot_be_written_is_an_error(manifest, engine, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "info").write_text("a file where the folder should be")
    with pytest.raises(TaskError):
        run_info(manifest, str(tmp_path / "out"), engine, options())


def test_a_file_that_is_in_no_part_is_an_error(manifest, engine, tmp_path, monkeypatch):
    def careless(batch):
        rest = InfoBatch(batch.urls[1:], *list(vars(batch).values())[1:])
        report = run_info_batch(rest)
        store = open_store(batch.out)
        store.put(batch.part_key, store.get(rest.part_key))
        return report

    monkeypatch.setattr(fits_info, "run_info_batch", careless)
    with pytest.raises(ConservationError, match=r"5 of 9 files"):
        run_info(manifest, str(tmp_path / "out"), engine, options())


def test_a_part_is_named_by_what_is_in_it():
    storage = StorageOptions()
    batch = InfoBatch(("a.fits",), ("FILTER",), "out", storage, storage)
    assert batch.part_key == InfoBatch(("a.fits",), ("FILTER",), "other", storage, storage).part_key
    others = [
        InfoBatch(("b.fits",), ("FILTER",), "out", storage, storage),
        InfoBatch(("a.fits",), (), "out", storage, storage),
    ]
    assert all(batch.part_key != other.part_key for other in others)
