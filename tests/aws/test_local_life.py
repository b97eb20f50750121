"""Start and stop: nothing is left behind, not even by one that was killed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from hstmap.aws.local import LocalAws, LocalAwsOptions
from hstmap.aws.local.cgroups import find_cgroups
from hstmap.aws.local.processes import marked_processes
from hstmap.aws.local.run_folder import RunFolder
from hstmap.aws.local.s3_log import charged
from hstmap.errors import EngineError, UsageError

# A loopback AWS with one idle and one busy environment, that says where it is.
SERVE = """
import json, sys
from pathlib import Path
from hstmap.aws.local import LocalAwsOptions, serve

def ready(aws):
    trust = {"Statement": [{"Principal": {"Service": "lambda.amazonaws.com"}}]}
    role = aws.client("iam").create_role(
        RoleName="r", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    client = aws.client("lambda")
    source = "import time\\ndef handler(event, context):\\n    time.sleep(event)\\n"
    import io, zipfile
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("main.py", source)
    runtime = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for name in ("idle", "busy"):
        client.create_function(FunctionName=name, Role=role, Runtime=runtime, Timeout=600,
            Handler="main.handler", Code={"ZipFile": buffer.getvalue()})
    client.invoke(FunctionName="idle", Payload=b"0")
    client.invoke(FunctionName="busy", Payload=b"600", InvocationType="Event")
    client.invoke(FunctionName="idle", Payload=b"0")
    print(json.dumps({"folder": str(aws.run_folder), **aws.environment}), flush=True)

serve(LocalAwsOptions(state_folder=Path(sys.argv[1])), ready)
"""


@contextlib.contextmanager
def serving(state_folder):
    command = [sys.executable, "-c", SERVE, str(state_folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


def leftovers(state_folder) -> list[object]:
    """Processes, control groups and files of loopback AWSs with this state folder."""
    found: list[object] = [*marked_processes(f"{state_folder}/")]
    with contextlib.suppress(OSError):
        found += find_cgroups().names()
    return [*found, *(state_folder.glob("*") if state_folder.exists() else [])]


def belonging_to(found, folder) -> list[object]:
    """Those of the left-overs that bear a run's name; other tests have their own."""
    name = Path(folder).name
    return [x for x in found if isinstance(x, int) or name in str(x)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_everything_and_nothing_is_left(tmp_path, number):
    state = tmp_path / "state"
    with serving(state) as (process, said):
        assert len(marked_processes(f"{said['folder']}/")) >= 5  # moto, and two of two each
        assert belonging_to(leftovers(state), said["folder"])
        process.send_signal(number)
        assert process.wait() == 0
    assert belonging_to(leftovers(state), said["folder"]) == []
    assert not state.exists()


def test_control_groups_are_swept_even_where_the_files_are_gone(tmp_path):
    try:
        find_cgroups()
    except OSError as error:
        pytest.skip(f"no control groups on this machine: {error}")
    with serving(tmp_path / "gone") as (process, said):
        process.kill()
        process.wait()
    shutil.rmtree(tmp_path / "gone")
    name = Path(said["folder"]).name
    assert any(group.startswith(name) for group in find_cgroups().names())
    with LocalAws(LocalAwsOptions(state_folder=tmp_path / "state")):
        assert not any(group.startswith(name) for group in find_cgroups().names())
    assert marked_processes(f"{tmp_path}/") == []


def test_what_a_killed_one_left_is_swept_by_the_next(tmp_path):
    state = tmp_path / "state"
    with serving(state) as (process, said):
        process.kill()
        process.wait()
    assert belonging_to(leftovers(state), said["folder"])
    with LocalAws(LocalAwsOptions(state_folder=state)) as aws:
        assert [path.name for path in state.iterdir()] == [aws.run_folder.name]
        assert belonging_to(leftovers(state), said["folder"]) == marked_processes(
            f"{aws.run_folder}/"
        )
    assert not state.exists()


def test_two_at_once_do_not_disturb_each_other(tmp_path, deployer_for):
    options = LocalAwsOptions(state_folder=tmp_path / "state")
    with LocalAws(options) as first:
        deploy = deployer_for(first)
        name = deploy("def handler(event, context):\n    return event\n")
        deploy.invoke(name)
        with LocalAws(options) as second:
            assert second.client("lambda").list_functions()["Functions"] == []
        assert deploy.invoke(name, 2)["Payload"] == 2
        assert [run.is_cold for run in first.invocation_log] == [True, False]


def test_it_can_be_stopped_twice_and_not_used_afterwards(tmp_path):
    aws = LocalAws(LocalAwsOptions(state_folder=tmp_path / "state"))
    with pytest.raises(UsageError, match="not running"):
        aws.environment  # noqa: B018
    with aws:
        assert aws.environment["AWS_REGION"] == "us-east-1"
        with pytest.raises(UsageError, match="started already"):
            aws.start()
    aws.stop()
    with pytest.raises(UsageError, match="not running"):
        aws.request_log  # noqa: B018


def test_stopping_ends_what_still_runs(tmp_path, deployer_for):
    with LocalAws(LocalAwsOptions(state_folder=tmp_path / "state")) as aws:
        deploy = deployer_for(aws)
        source = "import time\ndef handler(event, context):\n    time.sleep(600)\n"
        name = deploy(source, Timeout=900)
        for _ in range(3):
            deploy.send(name)
    assert marked_processes(f"{tmp_path}/") == []
    assert not (tmp_path / "state").exists()


def test_a_service_that_does_not_start_is_said_to_and_nothing_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr("hstmap.aws.local.services.sys.executable", "/bin/false")
    monkeypatch.setattr(
        "hstmap.aws.local.local_aws.make_runtime", lambda folder, distributions: folder
    )
    with pytest.raises(EngineError, match="moto's server did not start"):
        LocalAws(LocalAwsOptions(state_folder=tmp_path / "state")).start()
    assert not (tmp_path / "state").exists()


def test_a_port_can_be_chosen_and_a_taken_one_is_refused(tmp_path):
    with LocalAws(LocalAwsOptions(state_folder=tmp_path / "a")) as aws:
        port = int(aws.environment["AWS_ENDPOINT_URL_LAMBDA"].rpartition(":")[2])
        with pytest.raises(OSError, match="in use"):
            LocalAws(LocalAwsOptions(port=port, state_folder=tmp_path / "b")).start()
    assert list(tmp_path.iterdir()) == []
    with LocalAws(LocalAwsOptions(port=port, state_folder=tmp_path / "c")) as aws:
        assert aws.environment["AWS_ENDPOINT_URL_LAMBDA"] == f"http://127.0.0.1:{port}"


def test_clients_that_are_given_the_environment_find_every_service_here(local_aws, tmp_path):
    code = (
        "import boto3, json\n"
        "services = ['s3', 'sts', 'iam', 'ecr', 'logs', 'lambda', 'service-quotas']\n"
        "print(json.dumps([boto3.client(s).meta.endpoint_url for s in services]))\n"
        "print(boto3.client('sts').get_caller_identity()['Account'])\n"
    )
    kept = {n: v for n, v in os.environ.items() if not n.startswith("AWS_")}
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**kept, **local_aws.environment},
        capture_output=True,
        text=True,
        check=True,
    )
    urls, account = result.stdout.splitlines()
    assert all(url.startswith("http://127.0.0.1:") for url in json.loads(urls))
    assert account == "123456789012"


def test_importing_it_brings_no_server_and_a_missing_package_is_named():
    code = (
        "import sys\n"
        "sys.modules['aiohttp'] = None\n"
        "from hstmap.aws.local import Fault, LocalAwsOptions, parse_report\n"
        "assert not {'boto3', 'botocore', 'moto'} & set(sys.modules)\n"
        "from hstmap.aws.local import LocalAws\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert "UsageError: the loopback AWS needs aiohttp" in result.stderr


@pytest.mark.parametrize(
    "options", [{"concurrency": 0}, {"retry_delays_s": ()}, {"n_cores": 0}, {"n_cores": -1}]
)
def test_options_that_cannot_be_meant_are_refused(options):
    with pytest.raises(UsageError):
        LocalAwsOptions(**options)


#: For what `ask_of_each_kind` asks.
CHARGED = Counter({"get": 4, "put": 4, "list": 1, "delete": 2})


def ask_of_each_kind(s3, bucket):
    """Two objects, one of them in parts; what is not there is charged, too."""
    s3.put_object(Bucket=bucket, Key="a", Body=b"x")
    s3.get_object(Bucket=bucket, Key="a")
    s3.head_object(Bucket=bucket, Key="a")
    for ask in (s3.get_object, s3.head_object):
        with pytest.raises(s3.exceptions.ClientError):
            ask(Bucket=bucket, Key="nothing")
    s3.list_objects_v2(Bucket=bucket)
    upload = {"Bucket": bucket, "Key": "b"}
    upload["UploadId"] = s3.create_multipart_upload(**upload)["UploadId"]
    part = s3.upload_part(**upload, PartNumber=1, Body=b"y")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    s3.complete_multipart_upload(**upload, MultipartUpload=parts)
    s3.delete_object(Bucket=bucket, Key="a")
    s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "b"}]})


def test_motos_s3_counts_what_would_be_charged(local_aws):
    s3 = local_aws.client("s3")
    s3.create_bucket(Bucket="charged")
    before = local_aws.s3_charged
    ask_of_each_kind(s3, "charged")
    assert local_aws.s3_charged - before == CHARGED


def test_what_s3_itself_got_wrong_is_not_charged():
    answers = {
        ("GET", 200): 3,
        ("GET", 503): 5,
        ("HEAD", 404): 1,
        ("POST", 500): 1,
        ("LIST", 200): 2,
    }
    assert charged(answers) == Counter({"get": 4, "list": 2})


def test_seaweedfs_can_be_the_s3(tmp_path, deployer_for):
    options = LocalAwsOptions(s3="seaweedfs", state_folder=tmp_path / "state")
    aws = LocalAws(options)
    try:
        aws.start()
    except UsageError as error:
        pytest.skip(str(error))
    with contextlib.ExitStack() as stack:
        stack.callback(aws.stop)
        s3 = aws.client("s3")
        s3.create_bucket(Bucket="load")
        s3.put_object(Bucket="load", Key="k", Body=b"0123456789")
        answer = s3.get_object(Bucket="load", Key="k", Range="bytes=2-4")
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 206
        assert answer["Body"].read() == b"234"
        with pytest.raises(s3.exceptions.ClientError) as caught:
            s3.put_object(Bucket="load", Key="k", Body=b"x", IfNoneMatch="*")
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 412
        source = (
            "import boto3\n"
            "def handler(event, context):\n"
            "    return boto3.client('s3').get_object(Bucket='load', Key='k')['ContentLength']\n"
        )
        deploy = deployer_for(aws)
        assert deploy.invoke(deploy(source, MemorySize=1769))["Payload"] == 10
        before = aws.s3_charged
        ask_of_each_kind(s3, "load")
        assert aws.s3_charged - before == CHARGED
    assert marked_processes(f"{tmp_path}/") == []
    assert not (tmp_path / "state").exists()


def test_a_folder_that_another_one_removes_at_the_worst_moment_is_made_again(tmp_path, monkeypatch):
    parent, made = tmp_path / "runs", []
    mkdir = Path.mkdir

    def mkdir_and_lose(path: Path, *arguments: object, **options: object) -> None:
        mkdir(path, *arguments, **options)
        made.append(path)
        if path == parent and made.count(parent) <= 2:  # the last of others ends, and tidies up
            parent.rmdir()

    monkeypatch.setattr(Path, "mkdir", mkdir_and_lose)
    folder = RunFolder(parent, None)
    assert folder.path.is_dir()
    assert made.count(parent) == 3
    folder.remove()
    assert not parent.exists()
