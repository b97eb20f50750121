"""Maps whose engine lets only so many calls be sent: what is left, and who does it."""

from __future__ import annotations

import pytest

from hstmap.archive.sources import resolve_sources
from hstmap.bag.engine import EngineOptions, InProcessEngine
from hstmap.batch import RunParameters
from hstmap.pipeline import RunOptions, plan_run, run_map
from hstmap.run_record import done_images
from hstmap.storage import open_store
from hstmap.tally import MapResult
from support.archive import write_archive, write_broken_files
from support.turnstile import Turnstile

N_IMAGES = 5
OPTIONS = RunOptions(batch_size=2, catalogs="none")


@pytest.fixture
def images(tmp_path):
    write_archive(tmp_path / "images", N_IMAGES)
    return tmp_path / "images"


def mapped(images, out, n_calls) -> tuple[MapResult, Turnstile]:
    manifest = resolve_sources([str(images)])
    plan = plan_run(manifest, str(out), RunParameters(), OPTIONS)
    turnstile = Turnstile(n_calls)
    with InProcessEngine(EngineOptions(retries=0), gate=turnstile) as engine:
        return run_map(plan, manifest, engine, OPTIONS), turnstile


@pytest.mark.parametrize(("n_calls", "n_left"), [(0, 5), (1, 3), (2, 1), (3, 0), (9, 0)])
def test_images_without_a_call_are_left_and_nothing_is_said_of_them(
    images, tmp_path, n_calls, n_left
):
    out = tmp_path / "out"
    result, turnstile = mapped(images, out, n_calls)
    assert result.n_left == n_left
    assert sum(result.outcomes.values()) == N_IMAGES - n_left
    assert len(done_images(open_store(str(out)))) == N_IMAGES - n_left
    assert turnstile.stages == [("map", n_left == 0)]


def test_the_next_maps_do_what_is_left(images, tmp_path):
    out, n_maps = tmp_path / "out", 0
    write_broken_files(images)
    n_images = len(resolve_sources([str(images)]))
    while len(done_images(open_store(str(out)))) < n_images:
        result, _ = mapped(images, out, 1)
        assert sum(result.outcomes.values()) == 2 or result.n_left == 0
        n_maps += 1
    assert n_maps == -(-n_images // 2)


def test_a_batch_that_was_lost_is_left_if_it_cannot_be_done_image_by_image(
    images, tmp_path, monkeypatch
):
    def fail(batch):
        raise ValueError(f"{len(batch.images)} images")

    monkeypatch.setattr("hstmap.pipeline.do_batch", fail)
    out = tmp_path / "out"
    # All three batches fail; of the images of two of them one has its turn alone.
    result, turnstile = mapped(images, out, 4)
    assert result.outcomes == {"failed": 1}
    assert result.n_left == N_IMAGES - 1
    assert turnstile.stages == [("map", True), ("map-one-by-one", False)]
    assert list(done_images(open_store(str(out))).values()) == ["failed"]
