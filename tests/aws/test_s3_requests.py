"""Requests of boto3, counted as they are answered."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar

import boto3
import botocore.loaders
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from hstmap.aws.s3_requests import kind_of_operation, storage_requests
from hstmap.errors import StorageError
from hstmap.storage import StorageOptions, open_store
from hstmap.storage_counts import RequestCounts

FREE = {"DeleteObject", "DeleteObjects", "AbortMultipartUpload", "DeleteBucket"}


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ("GetObject", "n_get"),
        ("HeadObject", "n_head"),
        ("HeadBucket", "n_head"),
        ("ListObjectsV2", "n_list"),
        ("PutObject", "n_put"),
        ("CopyObject", "n_put"),
        ("CreateBucket", "n_put"),
        ("CreateMultipartUpload", "n_put"),
        ("UploadPart", "n_put"),
        ("CompleteMultipartUpload", "n_put"),
        ("AbortMultipartUpload", "n_delete"),
        ("DeleteObjects", "n_delete"),
    ],
)
def test_operations_are_of_the_kind_that_they_are_charged_as(operation, kind):
    assert kind_of_operation(operation) == kind


def test_every_operation_of_s3_is_of_some_kind():
    model = botocore.loaders.Loader().load_service_model("s3", "service-2")
    kinds = {name: kind_of_operation(name) for name in model["operations"]}
    assert set(kinds.values()) == {"n_get", "n_head", "n_list", "n_put", "n_delete"}
    assert {name for name, kind in kinds.items() if kind == "n_delete"} >= FREE
    by_method = {name: model["operations"][name]["http"]["method"] for name in kinds}
    assert {by_method[name] for name, kind in kinds.items() if kind == "n_head"} == {"HEAD"}
    assert {by_method[name] for name, kind in kinds.items() if kind == "n_get"} <= {"GET"}


def test_what_a_client_asks_for_is_counted(s3_bucket: str):
    bucket = s3_bucket.removeprefix("s3://")
    with storage_requests() as counts:
        client = boto3.session.Session().client("s3")
    client.head_bucket(Bucket=bucket)
    client.put_object(Bucket=bucket, Key="a", Body=b"x" * 100)
    assert client.get_object(Bucket=bucket, Key="a")["Body"].read() == b"x" * 100
    with pytest.raises(client.exceptions.NoSuchKey):
        client.get_object(Bucket=bucket, Key="nothing")
    client.list_objects_v2(Bucket=bucket)
    client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "a"}, {"Key": "b"}]})
    counted = RequestCounts(n_head=1, n_put=1, n_get=2, n_list=1, n_delete=1)
    assert counts - RequestCounts(nbytes_read=counts.nbytes_read) == counted
    assert counts.nbytes_read >= 100


def test_pages_of_a_listing_are_requests_each(s3_bucket: str):
    bucket = s3_bucket.removeprefix("s3://")
    with storage_requests() as counts:
        client = boto3.session.Session().client("s3")
    for number in range(5):
        client.put_object(Bucket=bucket, Key=str(number), Body=b"")
    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, PaginationConfig={"PageSize": 2}
    )
    assert sum(len(page["Contents"]) for page in pages) == 5
    assert (counts.n_put, counts.n_list) == (5, 3)


def test_other_clients_and_other_services_are_not_counted(s3_bucket: str):
    boto3.client("s3").head_bucket(Bucket=s3_bucket.removeprefix("s3://"))
    with storage_requests() as counts:
        boto3.session.Session().client("sts").get_caller_identity()
    boto3.client("s3").head_bucket(Bucket=s3_bucket.removeprefix("s3://"))
    assert counts == RequestCounts()


def test_two_countings_do_not_meet(s3_bucket: str):
    bucket = s3_bucket.removeprefix("s3://")
    with storage_requests() as first:
        one = boto3.session.Session().client("s3")
    with storage_requests() as second:
        two = boto3.session.Session().client("s3")
    one.head_bucket(Bucket=bucket)
    two.head_bucket(Bucket=bucket)
    two.head_bucket(Bucket=bucket)
    assert (first.n_head, second.n_head) == (1, 2)


# -- a server that fails ---------------------------------------------------------------------------


class Failing(BaseHTTPRequestHandler):
    """Answers with what the script says, and then with 200."""

    script: ClassVar[list[int]] = []
    n_requests = 0

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        type(self).n_requests += 1
        status = self.script.pop(0) if self.script else 200
        if status == 0:  # the connection breaks off
            self.close_connection = True
            return
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def failing() -> Iterator[str]:
    Failing.script.clear()
    Failing.n_requests = 0
    with ThreadingHTTPServer(("127.0.0.1", 0), Failing) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("script", "n_counted", "n_sent"),
    [
        ([], 1, 1),
        ([503, 500], 1, 3),  # S3's errors are not charged, and not counted
        ([500] * 9, 0, 3),
        ([403], 1, 1),  # what is refused is charged
        ([0], 2, 2),  # nobody knows whether it was served: counted
    ],
    ids=["well", "slow down", "broken", "refused", "cut"],
)
def test_what_is_repeated_is_counted_as_it_is_charged(failing, script, n_counted, n_sent):
    Failing.script.extend(script)
    with storage_requests() as counts:
        session = boto3.session.Session("testing", "testing", region_name="us-east-1")
        client = session.client(
            "s3",
            endpoint_url=failing,
            config=Config(retries={"total_max_attempts": 3, "mode": "standard"}, proxies={}),
        )
    with contextlib.suppress(ClientError, BotoCoreError):
        client.put_object(Bucket="bucket", Key=uuid.uuid4().hex, Body=b"x")
    assert counts == RequestCounts(n_put=n_counted)
    assert Failing.n_requests == n_sent


@pytest.mark.parametrize(
    ("script", "n_charged"),
    [([], 1), ([503, 500], 1), ([403], 1), ([404], 1)],
    ids=["well", "slow down", "refused", "missing"],
)
def test_a_store_counts_as_is_charged_too(failing, script, n_charged, monkeypatch):
    """It repeats by itself after 5xx; those are not charged."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    Failing.script.extend(script)
    store = open_store("s3://bucket", StorageOptions(endpoint_url=failing, region="us-east-1"))
    with contextlib.suppress(StorageError):
        store.put("key", b"x")
    n_free = sum(status >= 500 for status in script)
    assert store.counts.n_put == n_charged == Failing.n_requests - n_free
