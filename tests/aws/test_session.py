"""What stands in the place of AWS and is not: a web server, a proxy, a page that wants a login."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from botocore.exceptions import ClientError

from hstmap.aws.session import AwsSession, in_brief
from hstmap.cli import main
from hstmap.errors import UsageError

PAGE = b"<!DOCTYPE html>\n<html><title>404 Not Found</title>" + b"<br>" * 30 + b"</html>"


class Server(ThreadingHTTPServer):
    """Answers every request alike."""

    status = 200
    body = b""
    kind = "text/html"

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.n_requests = 0


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        self.server.n_requests += 1
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(self.server.status)
        self.send_header("Content-Type", self.server.kind)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(self.server.body)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST  # noqa: N815 - names that http.server calls

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    for name, value in [("ACCESS_KEY_ID", "me"), ("SECRET_ACCESS_KEY", "secret")]:
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


CALLS = [
    ("sts", "get_caller_identity", {}),
    ("lambda", "get_function", {"FunctionName": "hstmap"}),
    ("logs", "describe_log_groups", {}),
    ("iam", "get_role", {"RoleName": "hstmap"}),
]


@pytest.mark.parametrize(("service", "operation", "arguments"), CALLS, ids=[c[0] for c in CALLS])
@pytest.mark.parametrize("status", [200, 404])
def test_a_page_is_no_answer_whatever_was_asked(server, service, operation, arguments, status):
    server.body, server.status = PAGE, status
    with pytest.raises(UsageError) as caught:
        getattr(AwsSession("us-east-1").client(service), operation)(**arguments)
    said = str(caught.value)
    assert said.startswith(f"{server.url} is not AWS: asked for {service} ")
    assert "'<!DOCTYPE html> <html><title>404 Not Found" in said
    assert f"...' (HTTP status {status})" in said
    assert "AWS_ENDPOINT_URL" in said
    assert "\n" not in said
    assert server.n_requests == 1


@pytest.mark.parametrize(("body", "shown"), [
    (b"", "it answered nothing (HTTP status 200)"),
    (b" \n", "it answered nothing"),
    (b"404 page not found", "'404 page not found'"),
    (b"{}", "'{}'"),
    (b"\xff\xfe", r"'\ufffd\ufffd'"),
])  # fmt: skip
def test_neither_is_an_empty_one_nor_any_other_text(server, body, shown):
    server.body = body
    with pytest.raises(UsageError) as caught:
        AwsSession("us-east-1").account_id()
    assert shown.encode().decode("unicode_escape") in str(caught.value)


def test_a_page_in_the_place_of_s3_is_an_error_too(server):
    # botocore makes a failure of what S3 says with status 200 if it is no answer of S3's.
    server.body = PAGE
    client = AwsSession("us-east-1", n_attempts=1).client("s3")
    with pytest.raises(ClientError, match="ListObjectsV2"):
        client.list_objects_v2(Bucket="images")
    server.status = 404
    with pytest.raises(UsageError, match="is not AWS: asked for s3 ListObjectsV2"):
        client.list_objects_v2(Bucket="images")


def test_plain_text_is_none_where_json_is_expected(server):
    server.body = b"It works!"
    with pytest.raises(UsageError, match="answered 'It works!'"):
        AwsSession("us-east-1").client("lambda").get_function(FunctionName="hstmap")


def test_a_failure_of_a_server_before_aws_is_tried_again_as_ever(server):
    server.body, server.status = PAGE, 502
    with pytest.raises(ClientError, match="502"):
        AwsSession("us-east-1", n_attempts=2).client("lambda").get_function(FunctionName="hstmap")
    assert server.n_requests == 2
    with pytest.raises(UsageError, match=r"AWS does not know you: .*502") as caught:
        AwsSession("us-east-1", n_attempts=1).account_id()
    assert "\n" not in str(caught.value)


def test_errors_are_told_in_one_line_and_not_at_any_length():
    assert in_brief(ValueError("  no\n such  thing. ")) == "no such thing"
    told = in_brief(ValueError("<p>\n" * 1000))
    assert told.startswith("<p> <p>")
    assert told.endswith("...")
    assert len(told) < 600


def test_answers_of_aws_are_let_through(server):
    server.kind, server.body = "application/json", b' {"Configuration": {"FunctionName": "f"}}'
    lambda_client = AwsSession("us-east-1").client("lambda")
    assert lambda_client.get_function(FunctionName="f")["Configuration"] == {"FunctionName": "f"}
    server.body = b""
    assert lambda_client.delete_function(FunctionName="f")["ResponseMetadata"]
    server.body = (
        b"<GetCallerIdentityResponse><GetCallerIdentityResult><Account>123456789012</Account>"
        b"</GetCallerIdentityResult></GetCallerIdentityResponse>"
    )
    assert AwsSession("us-east-1").account_id() == "123456789012"
    server.status = 403
    server.body = b"<ErrorResponse><Error><Code>ExpiredToken</Code></Error></ErrorResponse>"
    with pytest.raises(UsageError, match=r"AWS does not know you: .*ExpiredToken"):
        AwsSession("us-east-1").account_id()


def test_what_is_stored_on_s3_may_be_a_page_or_anything(server):
    server.body = PAGE
    client = AwsSession("us-east-1").client("s3")
    assert client.get_object(Bucket="images", Key="index.html")["Body"].read() == PAGE
    server.body = b'{"Version": "2012-10-17"}'
    assert client.get_bucket_policy(Bucket="images")["Policy"] == server.body.decode()


@pytest.mark.parametrize("command", ["doctor", "deploy", "undeploy"])
def test_commands_say_so_in_one_line(server, tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lithops_config.yaml").write_text(
        "lithops: {backend: aws_lambda, storage: aws_s3}\naws: {region: us-east-1}\n"
    )
    server.body = PAGE
    assert main([command]) == 2
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert said.startswith(f"hstmap {command}: error: {server.url} is not AWS: asked for sts")
