"""How far ahead a worker fetches, and when it lets the bytes go."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hstmap import image_files, worker
from hstmap.batch import Batch, ImageKey, RunParameters
from hstmap.errors import RejectedImageError
from hstmap.parts import part_images
from hstmap.ranged import RangedFile
from hstmap.storage import StorageOptions, open_store
from hstmap.wfc3.simulate import simulate_flt
from hstmap.wfc3.simulate_scene import scene


@dataclass
class Fetches:
    """Stands in for the store: takes note of what was fetched while images were worked on."""

    started: list[str] = field(default_factory=list)

    def __call__(self, _stores: object, image: ImageKey) -> image_files.ImageFiles:
        self.started.append(image.rootname)
        return image_files.ImageFiles()


@pytest.mark.parametrize(
    ("url", "n_ahead"), [("s3://bucket/{}_flt.fits", 3), ("/folder/{}_flt.fits", 1)]
)
def test_remote_images_are_fetched_further_ahead_than_local_ones(
    monkeypatch: pytest.MonkeyPatch, url: str, n_ahead: int
) -> None:
    fetches = Fetches()
    monkeypatch.setattr(image_files, "fetch", fetches)
    images = [ImageKey(f"i{n}", url.format(f"i{n}")) for n in range(8)]
    stores = image_files.Stores(StorageOptions())
    done = []
    for image, _ in image_files.fetched_ahead(stores, images):
        done.append(image.rootname)
        assert len(fetches.started) <= len(done) + n_ahead
    assert done == sorted(fetches.started) == [image.rootname for image in images]


@pytest.fixture(scope="module")
def flt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    image = simulate_flt(scene("sparse"), "isim01a1q")
    path = tmp_path_factory.mktemp("images") / image.filename
    path.write_bytes(image.content)
    return path


def test_the_bytes_go_as_soon_as_the_image_is_read(
    monkeypatch: pytest.MonkeyPatch, flt: Path
) -> None:
    closed_at_detection = []
    subtract_background = worker.subtract_background

    def look(*arguments):
        closed_at_detection.append((file.closed, weights.closed))
        return subtract_background(*arguments)

    monkeypatch.setattr(worker, "subtract_background", look)
    monkeypatch.setattr(
        worker, "read_image", lambda file, name, how, _weights: read_image(file, name, how)
    )
    from hstmap.wfc3.image import read_image

    store = open_store(str(flt.parent))
    file, weights = (store.open_ranged(flt.name, 10_000_000) for _ in range(2))
    measured = worker.measure_image((file, weights), flt.name, RunParameters())
    assert closed_at_detection == [(True, True)]
    assert len(measured.sources["number"]) > 100


def test_a_row_says_how_much_was_read_of_a_file_that_is_closed_by_then(
    flt: Path, tmp_path: Path
) -> None:
    batch = Batch((ImageKey("isim01a1q", str(flt)),), str(tmp_path))
    report = worker.run_batch(batch)
    ((_, (row,)),) = part_images(open_store(str(tmp_path)), [report.part])
    assert row["outcome"] == "ok"
    assert 10_000_000 < row["nbytes_read"] <= row["nbytes"] == flt.stat().st_size


def test_a_rejected_image_keeps_its_reason(
    monkeypatch: pytest.MonkeyPatch, flt: Path, tmp_path: Path
) -> None:
    def refuse(file: RangedFile, *_: object) -> None:
        file.read(2880)
        raise RejectedImageError("no_data", "there is nothing in it")

    monkeypatch.setattr(worker, "read_image", refuse)
    report = worker.run_batch(Batch((ImageKey("isim01a1q", str(flt)),), str(tmp_path)))
    ((_, (row,)),) = part_images(open_store(str(tmp_path)), [report.part])
    assert (row["outcome"], row["reason"]) == ("rejected", "no_data")
    assert row["nbytes_read"] > 0


def test_an_exception_that_cannot_be_told_is_an_outcome(
    monkeypatch: pytest.MonkeyPatch, flt: Path, tmp_path: Path
) -> None:
    class UnspeakableError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("not even that")

    def fail(*_: object) -> None:
        raise UnspeakableError

    monkeypatch.setattr(worker, "read_image", fail)
    batch = Batch((ImageKey("isim01a1q", str(flt)),), str(tmp_path), debug=True)
    report = worker.run_batch(batch)
    ((_, (row,)),) = part_images(open_store(str(tmp_path)), [report.part])
    assert (row["outcome"], row["reason"]) == ("failed", "unexpected")
    assert row["message"].startswith("UnspeakableError: ")
    assert row["message"].endswith("(--debug shows where)")
    assert "in fail" in row["notes"]
