"""Requests that fetches make at the same time are all counted."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from hstmap import image_files
from hstmap.storage import StorageOptions, open_store


@pytest.mark.parametrize("n_roots", [1, 3])
def test_fetches_that_begin_together_share_a_store(tmp_path, monkeypatch, n_roots):
    n = 6
    for i in range(n):
        place = tmp_path / str(i % n_roots)
        place.mkdir(exist_ok=True)
        (place / f"{i}.fits").write_bytes(bytes(10))
    opened = []
    all_there = threading.Barrier(n)
    waits = threading.Event()

    def open_slowly(root, options):
        opened.append(root)
        waits.wait(0.05)  # so that whoever looks meanwhile finds nothing there
        return open_store(root, options)

    monkeypatch.setattr(image_files, "open_store", open_slowly)
    stores = image_files.Stores(StorageOptions())

    def fetch(i):
        all_there.wait(10)
        return stores.open(str(tmp_path / str(i % n_roots) / f"{i}.fits"), 10).nbytes_read

    with ThreadPoolExecutor(n) as pool:
        assert list(pool.map(fetch, range(n))) == [10] * n
    assert len(opened) == n_roots
    counts = stores.counts()
    assert counts.nbytes_read == 10 * n
