"""How stores are reached, and what happens when the network or the server is not well.

A small S3 of this file's own answers as each test scripts it: moto never fails.
"""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from hstmap.errors import (
    ForbiddenObjectError,
    MissingObjectError,
    StorageError,
    UsageError,
)
from hstmap.storage import StorageOptions, Store, join_url, open_store, split_url
from hstmap.storage_backend import check_takes_files

BODY = bytes(i % 251 for i in range(200_000))
N_RETRIES = 3


@dataclass
class Seen:
    """One request that the scripted server saw."""

    method: str
    path: str
    headers: dict[str, str]

    @property
    def range(self) -> str | None:
        return self.headers.get("range")


@dataclass
class ScriptedS3:
    """Answers of `script`, called with the handler and how often that was asked before."""

    url: str
    script: Callable[[BaseHTTPRequestHandler, int], None] = lambda handler, n: send_body(handler)
    seen: list[Seen] = field(default_factory=list)

    def store(self, **options: object) -> Store:
        quick = {"max_retries": N_RETRIES, "retry_timeout_s": 20.0, "endpoint_url": self.url}
        return open_store("s3://bucket", StorageOptions(**(quick | options)))


def send(handler: BaseHTTPRequestHandler, status: int, body: bytes = b"", **headers: str) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def send_body(handler: BaseHTTPRequestHandler, n_sent: int | None = None) -> None:
    """Send `BODY` or the range asked for; with `n_sent`, break off after so many bytes."""
    start, end = 0, len(BODY)
    match = re.fullmatch(r"bytes=(\d+)-(\d+)", handler.headers.get("Range") or "")
    if match:
        start, end = int(match[1]), min(len(BODY), int(match[2]) + 1)
    handler.send_response(206 if match else 200)
    handler.send_header("ETag", '"version-1"')
    handler.send_header("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT")
    if match:
        handler.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(BODY)}")
    handler.send_header("Content-Length", str(end - start))
    handler.end_headers()
    handler.wfile.write(BODY[start:end][:n_sent])
    if n_sent is not None:
        hang_up(handler)


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.flush()
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedS3]:
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key-of-environment")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    scripted = ScriptedS3("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            before = sum(seen.path == self.path for seen in scripted.seen)
            headers = {name.lower(): value for name, value in self.headers.items()}
            scripted.seen.append(Seen(self.command, self.path, headers))
            scripted.script(self, before)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    scripted.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield scripted
    server.shutdown()
    server.server_close()


# Faults


@pytest.mark.parametrize(
    ("status", "kind", "n_requests"),
    [
        (400, StorageError, 1),
        (401, ForbiddenObjectError, 1),
        (403, ForbiddenObjectError, 1),
        (404, MissingObjectError, 1),
        (301, StorageError, 1),
        (416, StorageError, 1),
        (429, StorageError, 1 + N_RETRIES),
        (500, StorageError, 1 + N_RETRIES),
        (503, StorageError, 1 + N_RETRIES),
    ],
)
def test_a_status_has_an_outcome_after_a_bounded_number_of_tries(
    s3: ScriptedS3, status: int, kind: type[StorageError], n_requests: int
) -> None:
    s3.script = lambda handler, n: send(handler, status)
    store = s3.store()
    with pytest.raises(kind) as raised:
        store.get("folder/key")
    assert raised.value.key == "s3://bucket/folder/key"
    assert len(s3.seen) == n_requests
    assert store.counts.n_get == 1
    assert store.counts.nbytes_read == 0


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_server_that_recovers_is_waited_for(s3: ScriptedS3, status: int) -> None:
    s3.script = lambda handler, n: send(handler, status) if n < 2 else send_body(handler)
    assert s3.store().get("key") == BODY
    assert len(s3.seen) == 3


def test_a_dropped_connection_is_tried_again(s3: ScriptedS3) -> None:
    s3.script = lambda handler, n: hang_up(handler) if n == 0 else send_body(handler)
    assert s3.store().get("key") == BODY
    assert len(s3.seen) == 2


def test_a_server_that_always_drops_is_given_up(s3: ScriptedS3) -> None:
    s3.script = lambda handler, n: hang_up(handler)
    with pytest.raises(StorageError, match="could not be reached or kept failing"):
        s3.store().get("key")
    assert len(s3.seen) == 1 + N_RETRIES


def test_a_body_that_breaks_off_is_completed(s3: ScriptedS3) -> None:
    s3.script = lambda handler, n: send_body(handler, n_sent=70_000 if n < 2 else None)
    store = s3.store()
    assert store.get("key") == BODY
    assert [seen.range for seen in s3.seen] == [None, "bytes=70000-199999", "bytes=140000-199999"]
    assert store.counts.nbytes_read == len(BODY)


def test_a_range_that_breaks_off_is_completed(s3: ScriptedS3) -> None:
    s3.script = lambda handler, n: send_body(handler, n_sent=1000 if n == 0 else None)
    assert s3.store().get_range("key", 50_000, 60_000) == BODY[50_000:60_000]


def test_a_body_that_always_breaks_off_is_an_error_and_no_short_answer(s3: ScriptedS3) -> None:
    s3.script = lambda handler, n: send_body(handler, n_sent=0)
    with pytest.raises(StorageError):
        s3.store().get("key")


def test_a_server_that_stalls_is_given_up(s3: ScriptedS3) -> None:
    released = threading.Event()
    s3.script = lambda handler, n: released.wait(30) and send(handler, 500)
    with pytest.raises(StorageError, match="could not be reached or kept failing"):
        s3.store(stall_timeout_s=0.2, max_retries=0).get("key")
    released.set()


def test_nobody_there(s3: ScriptedS3) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(StorageError, match="check the network and the endpoint"):
        s3.store(endpoint_url=url, max_retries=1).get("key")


def test_an_object_replaced_while_it_is_read_is_an_error(s3: ScriptedS3) -> None:
    def script(handler: BaseHTTPRequestHandler, n: int) -> None:
        if handler.headers.get("If-Match") in (None, '"version-1"') and n == 0:
            send_body(handler)
        else:
            send(handler, 412)

    s3.script = script
    file = s3.store().open_ranged("key", 1000)
    assert file.info.etag == "version-1"
    with pytest.raises(StorageError, match="was replaced while it was being read"):
        file.read()
    assert s3.seen[1].headers["if-match"] == '"version-1"'


def test_a_write_that_was_repeated_counts_as_there(s3: ScriptedS3) -> None:
    """The first try arrived and its answer was lost: the second finds the object."""
    s3.script = lambda handler, n: send(handler, 500) if n == 0 else send(handler, 412)
    assert s3.store().put("key", b"x", if_absent=True) is False
    assert all(seen.headers["if-none-match"] == "*" for seen in s3.seen)


def test_a_write_that_is_refused(s3: ScriptedS3) -> None:
    s3.script = lambda handler, n: send(handler, 403)
    store = s3.store()
    with pytest.raises(ForbiddenObjectError, match="may not do this"):
        store.put("key", b"x")
    assert (store.counts.n_put, store.counts.nbytes_written) == (1, 0)


# Listings


def list_keys(keys: list[str]) -> Callable[[BaseHTTPRequestHandler, int], None]:
    """Answer ListObjectsV2 as S3 does, 1,000 keys a page, in the order of the keys."""

    def script(handler: BaseHTTPRequestHandler, n: int) -> None:
        query = {name: value[0] for name, value in parse_qs(urlsplit(handler.path).query).items()}
        after = query.get("continuation-token") or query.get("start-after") or ""
        prefix = query.get("prefix", "")
        left = [key for key in sorted(keys) if key > after and key.startswith(prefix)]
        page = left[:1000]
        contents = "".join(
            f"<Contents><Key>{key}</Key><Size>1</Size><ETag>&quot;e&quot;</ETag>"
            "<LastModified>2020-01-01T00:00:00.000Z</LastModified></Contents>"
            for key in page
        )
        more = len(left) > len(page)
        token = f"<NextContinuationToken>{page[-1]}</NextContinuationToken>" if more else ""
        body = (
            f"<ListBucketResult><IsTruncated>{str(more).lower()}</IsTruncated>"
            f"<KeyCount>{len(page)}</KeyCount>{token}{contents}</ListBucketResult>"
        )
        send(handler, 200, body.encode(), Content_Type="application/xml")

    return script


@pytest.mark.parametrize(
    ("n_keys", "n_pages"), [(0, 1), (1, 1), (1000, 1), (1001, 2), (2500, 3), (3000, 3)]
)
def test_each_page_of_a_listing_is_a_request(s3: ScriptedS3, n_keys: int, n_pages: int) -> None:
    keys = [f"a/{i:06d}" for i in range(n_keys)]
    s3.script = list_keys(keys)
    store = s3.store()
    assert [info.key for info in store.list("a/")] == keys
    assert store.counts.n_list == len(s3.seen) == n_pages


def test_a_listing_asks_for_pages_as_it_is_read(s3: ScriptedS3) -> None:
    s3.script = list_keys([f"{i:06d}" for i in range(5000)])
    store = s3.store()
    listing = store.list()
    assert s3.seen == []
    assert next(listing).key == "000000"
    assert store.counts.n_list == len(s3.seen) == 1


def test_a_prefix_within_a_name_lists_its_own_part_of_the_folder(s3: ScriptedS3) -> None:
    keys = [f"hst/public/i{letter}{i:04d}/x" for letter in "abc" for i in range(2000)]
    s3.script = list_keys(keys)
    store = s3.store()
    found = [info.key for info in store.list("hst/public/ib")]
    assert found == [key for key in keys if key.startswith("hst/public/ib")]
    # Two pages of its own and the one in which the next letter shows; none of what is before.
    assert store.counts.n_list == len(s3.seen) == 3


def test_a_listing_that_fails_midway_is_an_error_and_not_a_short_list(s3: ScriptedS3) -> None:
    whole = list_keys([f"{i:06d}" for i in range(2500)])

    def script(handler: BaseHTTPRequestHandler, n: int) -> None:
        if "continuation-token" in handler.path:
            send(handler, 403)
        else:
            whole(handler, n)

    s3.script = script
    with pytest.raises(StorageError):
        list(s3.store().list())


# Credentials, regions, endpoints


def credential(seen: Seen) -> tuple[str, str] | None:
    """Access key and region that a request was signed with, None if it was not."""
    match = re.search(r"Credential=([^/]+)/\d+/([^/]+)/s3/", seen.headers.get("authorization", ""))
    return (match[1], match[2]) if match else None


def test_requests_are_signed_for_the_default_region(s3: ScriptedS3) -> None:
    s3.store().get("key")
    assert credential(s3.seen[0]) == ("key-of-environment", "us-east-1")


def test_the_region_comes_from_options_then_environment(
    s3: ScriptedS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    s3.store().get("key")
    monkeypatch.setenv("AWS_REGION", "eu-west-2")
    s3.store().get("key")
    s3.store(region="eu-west-3").get("key")
    regions = [credential(seen) for seen in s3.seen]
    assert [found and found[1] for found in regions] == ["eu-west-1", "eu-west-2", "eu-west-3"]


def test_the_archive_is_read_unsigned_and_other_buckets_on_demand(s3: ScriptedS3) -> None:
    options = StorageOptions(endpoint_url=s3.url)
    open_store("s3://stpubdata", options).get("hst/public/x")
    assert s3.seen[-1].path == "/stpubdata/hst/public/x"
    assert credential(s3.seen[-1]) is None
    s3.store(unsigned=True).get("key")
    assert credential(s3.seen[-1]) is None
    open_store("s3://stpubdata", StorageOptions(endpoint_url=s3.url, unsigned=False)).get("x")
    assert credential(s3.seen[-1]) == ("key-of-environment", "us-east-1")


def test_the_archive_is_in_its_own_region_whatever_the_environment_says(
    s3: ScriptedS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    open_store("s3://stpubdata", StorageOptions(endpoint_url=s3.url, unsigned=False)).get("x")
    assert credential(s3.seen[-1]) == ("key-of-environment", "us-east-1")


def test_the_endpoint_comes_from_options_then_environment(
    s3: ScriptedS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = "http://127.0.0.1:1"
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.url)
    assert open_store("s3://bucket").get("key") == BODY
    monkeypatch.setenv("AWS_ENDPOINT_URL", nowhere)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.url)
    assert open_store("s3://bucket").get("key") == BODY
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", nowhere)
    assert open_store("s3://bucket", StorageOptions(endpoint_url=s3.url)).get("key") == BODY


@pytest.fixture
def aws_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An ``~/.aws`` with two profiles, in an environment without credentials."""
    (tmp_path / "credentials").write_text(
        "[default]\naws_access_key_id = key-of-default\naws_secret_access_key = s\n"
        "[work]\naws_access_key_id = key-of-work\naws_secret_access_key = s\n"
    )
    (tmp_path / "config").write_text("[profile work]\nregion = ap-south-1\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    return tmp_path


def test_profiles_are_read_where_the_environment_has_no_credentials(
    s3: ScriptedS3, aws_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.store().get("key")
    assert credential(s3.seen[-1]) == ("key-of-default", "us-east-1")
    monkeypatch.setenv("AWS_PROFILE", "work")
    s3.store().get("key")
    assert credential(s3.seen[-1]) == ("key-of-work", "ap-south-1")
    monkeypatch.setenv("AWS_REGION", "sa-east-1")
    s3.store().get("key")
    assert credential(s3.seen[-1]) == ("key-of-work", "sa-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key-of-environment")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    s3.store().get("key")
    assert credential(s3.seen[-1]) == ("key-of-environment", "sa-east-1")


def test_a_profile_that_is_not_there_is_refused_before_any_request(
    s3: ScriptedS3, aws_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "typo")
    with pytest.raises(UsageError, match="typo"):
        s3.store()
    assert s3.seen == []


def test_without_credentials_the_answer_says_where_to_put_some(
    s3: ScriptedS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last resort is the metadata service of EC2, which is not there either."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(
        ForbiddenObjectError, match="no AWS credentials were found: set AWS_PROFILE"
    ):
        s3.store(max_retries=0).get("key")
    assert s3.seen == []


# URLs


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://bucket/a/b_flt.fits", ("s3://bucket", "a/b_flt.fits")),
        ("s3://bucket", ("s3://bucket", "")),
        ("s3://bucket/a%20b+c", ("s3://bucket", "a%20b+c")),
        ("memory://name/a/b", ("memory://name", "a/b")),
        ("/abs/folder/b_flt.fits", ("/abs/folder", "b_flt.fits")),
        ("/b_flt.fits", ("/", "b_flt.fits")),
        ("/abs/folder/../b_flt.fits", ("/abs", "b_flt.fits")),
        ("file:///abs/with%20space/b.fits", ("/abs/with space", "b.fits")),
    ],
)
def test_urls_are_split_into_store_and_key(url: str, expected: tuple[str, str]) -> None:
    assert split_url(url) == expected


def test_relative_paths_are_those_of_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert split_url("data/x.fits") == (str(tmp_path / "data"), "x.fits")
    assert open_store("data").url == str(tmp_path / "data")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert split_url("~/x.fits") == (str(tmp_path), "x.fits")


def test_a_link_keeps_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "real.fits").write_bytes(b"x")
    (tmp_path / "link.fits").symlink_to("real.fits")
    assert split_url(str(tmp_path / "link.fits")) == (str(tmp_path), "link.fits")
    assert open_store(str(tmp_path)).get("link.fits") == b"x"


@pytest.mark.parametrize("url", ["gs://bucket/x", "https://host/x", "s3://", "s3:///key", "://x"])
def test_other_schemes_are_refused(url: str) -> None:
    with pytest.raises(UsageError, match="s3://bucket/prefix"):
        split_url(url)


@pytest.mark.parametrize("root", ["s3://bucket", "s3://bucket/", "/folder", "/"])
def test_joining_undoes_splitting(root: str) -> None:
    url = join_url(root, "x.fits")
    assert "//x" not in url
    assert split_url(url) == (root.rstrip("/") or "/", "x.fits")


@pytest.mark.parametrize("place", ["/proc", "/proc/new/folder", "/proc/self", "linked"])
def test_where_no_files_can_be_made_writing_ends_with_a_reason(tmp_path: Path, place: str) -> None:
    if not Path("/proc/self").exists():
        pytest.skip("this system has no /proc")
    (tmp_path / "linked").symlink_to("/proc")
    with pytest.raises(StorageError, match="below /proc, where no files can be made: name a place"):
        open_store(str(tmp_path / place)).put("x.png", b"x")


def test_links_of_proc_that_lead_to_a_disk_are_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if not Path("/proc/self/cwd").exists():
        pytest.skip("this system has no /proc")
    assert open_store("/proc/self/cwd/a").put("x.png", b"x")
    assert (tmp_path / "a" / "x.png").read_bytes() == b"x"


def test_what_only_begins_like_proc_is_a_place_as_any(tmp_path: Path) -> None:
    check_takes_files(Path("/processed/x.png"))
    check_takes_files(Path("/device/x.png"))
    check_takes_files(tmp_path / "new" / "x.png")


def test_a_device_or_a_pipe_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "link.csv").symlink_to("pipe.csv")
    for name in ("pipe.csv", "link.csv"):
        with pytest.raises(StorageError, match="is a device or a pipe: name a file"):
            open_store(str(tmp_path)).put(name, b"x")
    assert (tmp_path / "pipe.csv").is_fifo()
    with pytest.raises(StorageError, match="/dev/null: is a device"):
        open_store("/dev").put("null", b"x")
    # What it is linked to may be a file; the link is the system's.
    with pytest.raises(StorageError, match="/dev/stdout: is a device"):
        check_takes_files(Path("/dev/stdout"))


def test_a_link_to_a_file_is_replaced_by_the_file(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"old")
    (tmp_path / "link").symlink_to("old")
    open_store(str(tmp_path)).put("link", b"new")
    assert (tmp_path / "link").read_bytes() == b"new"
