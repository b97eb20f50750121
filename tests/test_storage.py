"""The object store: one behaviour over a folder, memory and S3 on the loopback."""

from __future__ import annotations

import gzip
import os
import pickle
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hstmap.errors import MissingObjectError, StorageError
from hstmap.storage import RequestCounts, Store, join_url, open_store

ODD_KEYS = [
    "plain.fits",
    "a/deep/er/key.fits.gz",
    "with space.fits",
    "percent%20sign",
    "plus+and&and=and?and#and;.fits",
    "brackets[1]*.fits",
    "quote'\"`.fits",
    "ünïcödé-星.fits",
    "tilde~at@colon:.fits",
    "back\\slash",
    "two..dots",
]


@pytest.fixture(params=["local", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        # A folder that is not there yet: it appears with the first object.
        return open_store(str(tmp_path / "not" / "yet"))
    if request.param == "memory":
        return open_store(f"memory://{request.node.nodeid.replace('/', '-')}/prefix")
    return open_store(request.getfixturevalue("s3_bucket") + "/some/prefix")


@pytest.mark.parametrize("key", ODD_KEYS)
def test_what_is_put_is_got_under_any_key(store: Store, key: str) -> None:
    data = key.encode() * 3
    assert store.put(key, data)
    got, info = store.get_with_info(key)
    assert got == data
    assert store.get(key) == data
    assert info == store.head(key)
    assert (info.key, info.nbytes) == (key, len(data))
    assert info.etag
    assert '"' not in info.etag
    assert info.modified.tzinfo is not None
    assert [item.key for item in store.list()] == [key]
    assert store.exists(key)


def test_an_object_can_be_replaced_and_changes_its_etag(store: Store) -> None:
    store.put("key", b"old")
    before = store.head("key").etag
    assert store.put("key", b"newer")
    assert store.get("key") == b"newer"
    assert store.head("key").etag != before


def test_put_if_absent_leaves_the_first(store: Store) -> None:
    assert store.put("folder/key", b"first", if_absent=True)
    assert not store.put("folder/key", b"second", if_absent=True)
    assert store.get("folder/key") == b"first"
    assert store.counts.nbytes_written == len(b"first")


def test_only_one_of_many_writers_makes_the_object(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda i: store.put("key", b"%d" % i, if_absent=True), range(16)))
    assert sum(made) == 1
    assert store.get("key") == b"%d" % made.index(True)


@pytest.mark.parametrize("method", ["get", "get_with_info", "head"])
def test_a_missing_object_says_so_in_one_line(store: Store, method: str) -> None:
    with pytest.raises(MissingObjectError) as raised:
        getattr(store, method)("a/missing.fits")
    assert raised.value.key == join_url(store.url, "a/missing.fits")
    assert "check the name" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not store.exists("a/missing.fits")


def test_a_missing_object_cannot_be_ranged_or_opened(store: Store) -> None:
    with pytest.raises(MissingObjectError):
        store.get_range("missing", 0, 5)
    with pytest.raises(MissingObjectError):
        store.open_ranged("missing", 100)


def test_a_listed_object_opens_without_a_request(store: Store) -> None:
    store.put("a/key", bytes(range(100)))
    (info,) = store.list("a/")
    before = store.counts + RequestCounts()
    with store.open_listed(info) as file:
        assert store.counts == before
        file.seek(-10, 2)
        assert file.read() == bytes(range(90, 100))
    assert store.counts - before == RequestCounts(n_get=1, nbytes_read=10)


def test_a_listed_object_that_is_another_by_now_is_not_read(store: Store) -> None:
    store.put("key", b"first version")
    (info,) = store.list()
    store.put("key", b"second version!")
    with store.open_listed(info) as file, pytest.raises(StorageError, match="was replaced"):
        file.read(5)


def test_ranges_are_half_open_and_end_with_the_object(store: Store) -> None:
    store.put("key", bytes(range(100)))
    assert store.get_range("key", 10, 13) == bytes([10, 11, 12])
    assert store.get_range("key", 98, 1000) == bytes([98, 99])
    with pytest.raises(StorageError, match="past the end"):
        store.get_range("key", 100, 101)


def test_a_range_can_be_asked_of_one_version(store: Store) -> None:
    store.put("key", b"first version")
    etag = store.head("key").etag
    assert store.get_range("key", 0, 5, etag) == b"first"
    store.put("key", b"second version!")
    with pytest.raises(StorageError, match="was replaced"):
        store.get_range("key", 0, 5, etag)


def test_an_empty_object_is_an_object(store: Store) -> None:
    store.put("empty", b"")
    assert store.get("empty") == b""
    assert store.head("empty").nbytes == 0
    with store.open_ranged("empty", 2880) as file:
        assert file.read() == b""
        assert file.info.nbytes == 0
        assert file.seek(0, os.SEEK_END) == 0


def test_a_ranged_file_needs_one_request_for_what_was_asked_up_front(store: Store) -> None:
    data = os.urandom(300_000)
    store.put("key", data)
    before = store.counts.n_get
    with store.open_ranged("key", 200_000) as file:
        assert file.read(200_000) == data[:200_000]
        assert store.counts.n_get - before == 1
        assert (file.info.nbytes, file.nbytes_read) == (300_000, 200_000)
        assert file.info == store.head("key")
        assert file.read() == data[200_000:]
        assert store.counts.n_get - before == 2
    assert store.counts.nbytes_read == 300_000
    assert file.name == join_url(store.url, "key")


def test_a_ranged_file_notices_that_the_object_was_replaced(store: Store) -> None:
    store.put("key", b"a" * 200_000)
    file = store.open_ranged("key", 1000)
    store.put("key", b"b" * 200_001)
    with pytest.raises(StorageError, match="was replaced while it was being read"):
        file.read()


def test_delete_is_done_when_the_object_is_gone(store: Store) -> None:
    store.put("key", b"x")
    store.delete("key")
    assert not store.exists("key")
    store.delete("key")
    assert list(store.list()) == []


LISTED = [
    "a.fits",
    "a/0.fits",
    "a/1.fits",
    "a/b/c.fits",
    "a0/x",
    "ab/x",
    "b",
    "b!",
    "ib6o/x",
    "ib6p",
]


@pytest.mark.parametrize(
    "prefix",
    ["", "a", "a/", "a/b", "a/b/", "a/0", "a/0.fits", "a0", "b", "b!", "ib6", "ib6o", "ib6o/", "z"],
)
def test_list_yields_the_keys_that_begin_with_the_prefix(store: Store, prefix: str) -> None:
    for key in LISTED:
        store.put(key, key.encode())
    found = {info.key: info.nbytes for info in store.list(prefix)}
    assert found == {key: len(key) for key in LISTED if key.startswith(prefix)}


def test_list_can_start_after_a_key(store: Store) -> None:
    for key in LISTED:
        store.put(key, b"")
    assert sorted(i.key for i in store.list(start_after="a0/x")) == [
        "ab/x",
        "b",
        "b!",
        "ib6o/x",
        "ib6p",
    ]
    assert sorted(i.key for i in store.list("a/", start_after="a/0.fits")) == [
        "a/1.fits",
        "a/b/c.fits",
    ]


def test_a_prefix_is_a_wall(store: Store) -> None:
    inner = open_store(join_url(store.url, "inner"))
    inner.put("key", b"x")
    assert [info.key for info in store.list()] == ["inner/key"]
    assert [info.key for info in inner.list()] == ["key"]
    assert not open_store(join_url(store.url, "inn")).exists("er/key")


def test_a_writer_makes_a_large_object_or_none(store: Store) -> None:
    data = os.urandom(1 << 20)
    with store.writer("large") as file:
        for start in range(0, len(data), 100_000):
            file.write(data[start : start + 100_000])
        assert not store.exists("large")
    assert store.get("large") == data
    assert (store.counts.n_put, store.counts.nbytes_written) == (1, len(data))

    def write_half() -> None:
        with store.writer("large") as file:
            file.write(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        write_half()
    assert store.get("large") == data
    assert [info.key for info in store.list()] == ["large"]


def test_a_writer_can_seek_as_archive_formats_do(store: Store) -> None:
    with store.writer("key") as file:
        file.write(b"....body")
        file.seek(0)
        file.write(b"head")
    assert store.get("key") == b"headbody"


@pytest.mark.parametrize(
    "key", ["", "/absolute", "folder/", "a//b", "../outside", "a/../b", ".", "a\nb"]
)
def test_a_key_that_would_be_bent_is_refused(store: Store, key: str) -> None:
    for act in (store.get, store.head, store.delete, lambda k: store.put(k, b"x")):
        with pytest.raises(StorageError) as raised:
            act(key)
        assert not isinstance(raised.value, MissingObjectError)
    assert store.counts == RequestCounts()
    assert list(store.list()) == []


def test_a_pickled_store_opens_anew(store: Store) -> None:
    store.put("key", b"x")
    copy = pickle.loads(pickle.dumps(store))
    assert copy.url == store.url
    assert copy.counts == RequestCounts()
    assert copy.get("key") == b"x"


def test_counts_of_threads_are_exact(store: Store) -> None:
    store.put("key", b"12345")
    n_threads, n_reads = 8, 25
    started = threading.Barrier(n_threads)

    def read(_: int) -> None:
        started.wait()
        for _ in range(n_reads):
            store.get("key")

    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(read, range(n_threads)))
    assert store.counts.n_get == n_threads * n_reads
    assert store.counts.nbytes_read == n_threads * n_reads * 5


def test_every_kind_of_request_is_counted(store: Store) -> None:
    store.put("key", b"x" * 100_000)
    store.put("key", b"x", if_absent=True)
    store.put("empty", b"")
    store.get("key")
    store.get_range("key", 0, 10)
    store.exists("key")
    store.exists("missing")
    with pytest.raises(MissingObjectError):
        store.get("missing")
    store.open_ranged("empty", 10)
    store.open_ranged("key", 10).read()
    list(store.list())
    list(store.list("nothing/here/"))
    store.delete("key")
    assert store.counts == RequestCounts(
        n_get=6,
        n_put=3,
        n_list=2,
        n_head=3,
        n_delete=1,
        nbytes_read=200_010,
        nbytes_written=100_000,
    )


def test_the_counts_are_those_of_the_server(s3_bucket: str, moto_server) -> None:
    n_before = len(moto_server.requests())
    store = open_store(s3_bucket)
    store.put("key", b"x" * 100_000)
    store.put("key", b"x", if_absent=True)
    store.get("key")
    store.exists("missing")
    store.open_ranged("key", 10).read()
    list(store.list("k"))
    store.delete("key")
    counts = store.counts
    seen = Counter(
        "LIST" if "list-type=2" in path else "DELETE" if path.endswith("?delete") else method
        for method, path in moto_server.requests()[n_before:]
        if s3_bucket.removeprefix("s3://") in path
    )
    assert seen == {
        "PUT": counts.n_put,
        "GET": counts.n_get,
        "HEAD": counts.n_head,
        "LIST": counts.n_list,
        "DELETE": counts.n_delete,
    }


def test_a_large_object_travels_in_parts_and_each_is_counted(s3_bucket: str, moto_server) -> None:
    store = open_store(s3_bucket)
    data = bytes(65 * 1024 * 1024)
    n_before = len(moto_server.requests())
    store.put("large", data)
    n_sent = sum("/large" in path for _, path in moto_server.requests()[n_before:])
    # Begin, five parts of at most 16 MiB, end.
    assert store.counts.n_put == n_sent == 7
    assert store.head("large").nbytes == len(data)
    assert store.counts.nbytes_written == len(data)


def test_counts_add_up() -> None:
    total = RequestCounts(n_get=1, nbytes_read=10)
    total += RequestCounts(n_get=2, n_put=3)
    assert total == RequestCounts(n_get=3, n_put=3, nbytes_read=10)
    assert total + total == RequestCounts(n_get=6, n_put=6, nbytes_read=20)
    assert total == RequestCounts(n_get=3, n_put=3, nbytes_read=10)


def test_a_bucket_that_is_not_there(s3_bucket: str) -> None:
    store = open_store(s3_bucket + "-not-there")
    for act in (lambda: store.get("x"), lambda: store.put("x", b""), lambda: list(store.list())):
        with pytest.raises(MissingObjectError, match="no such bucket"):
            act()


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    store.put("folder/file", b"x")
    for act in (store.get, store.head, lambda key: store.put(key, b"x"), store.delete):
        with pytest.raises(StorageError, match="is a folder where a file is needed") as raised:
            act("folder")
        assert not isinstance(raised.value, MissingObjectError)
    with pytest.raises(StorageError, match="a part of the path is a file"):
        store.put("folder/file/below", b"x")
    assert store.get("folder/file") == b"x"


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    versions = {bytes([i]) * 400_000 for i in range(2)}
    store.put("key", min(versions))
    done = threading.Event()

    def write() -> None:
        for _ in range(30):
            for data in versions:
                store.put("key", data)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    while not done.is_set():
        seen.add((tmp_path / "key").read_bytes())
    writer.join()
    assert seen <= versions
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_a_killed_writer_leaves_no_file_under_the_name(tmp_path: Path) -> None:
    script = (
        "import os, sys; from hstmap.storage import open_store\n"
        f"with open_store({str(tmp_path)!r}).writer('key') as file:\n"
        "    file.write(b'half'); file.flush(); os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 9
    assert list(tmp_path.iterdir()) == []


def test_local_paths_are_known_and_remote_ones_are_not(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    store.put("a/b", b"x")
    path = store.local_path("a/b")
    assert path is not None
    assert path.read_bytes() == b"x"
    assert open_store("memory://elsewhere").local_path("a/b") is None
    assert open_store("s3://bucket").local_path("a/b") is None


def test_opening_asks_for_nothing(tmp_path: Path) -> None:
    assert open_store(str(tmp_path / "nowhere")).counts == RequestCounts()
    assert not (tmp_path / "nowhere").exists()
    assert list(open_store(str(tmp_path / "nowhere")).list()) == []


_DROP_ROOT = "import os\nif os.geteuid() == 0: os.setegid(65534); os.seteuid(65534)\n"


def test_files_without_permission_are_forbidden(tmp_path: Path) -> None:
    """In a process that is not root, for which modes mean nothing."""
    locked, read_only = tmp_path / "locked.fits", tmp_path / "read-only"
    locked.write_bytes(b"x")
    read_only.mkdir()
    locked.chmod(0)
    read_only.chmod(0o555)
    for folder in (tmp_path, *tmp_path.parents):
        if not folder.stat().st_mode & 0o001 and folder.stat().st_uid == os.geteuid():
            folder.chmod(folder.stat().st_mode | 0o011)
    script = (
        "from hstmap.errors import ForbiddenObjectError\n"
        "from hstmap.storage import open_store\n"
        f"{_DROP_ROOT}"
        f"store = open_store({str(tmp_path)!r})\n"
        "for act in (lambda: store.get('locked.fits'),\n"
        "            lambda: store.open_ranged('locked.fits', 9),\n"
        "            lambda: store.put('read-only/new', b'x')):\n"
        "    try: act()\n"
        "    except ForbiddenObjectError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done
    assert all("no permission: check the owner and mode" in line for line in lines)


def test_a_fork_of_a_process_that_used_a_store_is_refused_and_does_not_hang(tmp_path: Path) -> None:
    script = (
        "import os; from hstmap.errors import StorageError; from hstmap.storage import open_store\n"
        f"store = open_store({str(tmp_path)!r}); store.put('key', b'x')\n"
        "if os.fork() == 0:\n"
        "    try: store.get('key')\n"
        "    except StorageError as error: print(error, flush=True)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert "was forked from" in done.stdout
    assert "spawn" in done.stdout


def test_importing_the_store_imports_little() -> None:
    script = (
        "import sys; import hstmap.storage; "
        "heavy = {'boto3', 'botocore', 'fsspec', 'numpy', 'pyarrow', 'astropy', 'arro3'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_real_frames_open_in_astropy_over_ranges(data_dir: Path) -> None:
    import numpy as np
    from astropy.io import fits

    store = open_store(str(data_dir / "frames" / "hst" / "public"))
    key = "ib6o/ib6o23rtq/ib6o23rtq_flt.fits"
    path = store.local_path(key)
    with (
        store.open_ranged(key, 64_000) as file,
        fits.open(file) as ranged,
        fits.open(path) as plain,
    ):
        for name in ("SCI", "DQ"):
            assert np.array_equal(ranged[name].data, plain[name].data, equal_nan=True)
            assert repr(ranged[name].header) == repr(plain[name].header)
        assert file.nbytes_read < 0.75 * file.info.nbytes
        assert store.counts.nbytes_read == file.nbytes_read
        assert store.counts.n_get <= 12


def test_a_gzipped_frame_opens_over_ranges(data_dir: Path) -> None:
    from astropy.io import fits

    store = open_store(str(data_dir / "other-ir"))
    with store.open_ranged("abell_2744_cd_galaxy_f105w.fits.gz", 5_000_000) as file:
        with gzip.GzipFile(fileobj=file) as plain, fits.open(plain) as hdus:
            assert any(hdu.data is not None for hdu in hdus)
        assert store.counts.n_get == 1
