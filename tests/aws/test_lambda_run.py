"""Whole runs on Lambda, from the command line and as in 2018."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from astropy.table import Table

from hstmap.aws.local import parse_report
from hstmap.aws.local.runtime_folder import HOST_RUNTIME
from hstmap.storage import open_store

N_IMAGES = 4


@pytest.fixture(scope="module")
def images() -> list[tuple[str, bytes]]:
    """A few simulated frames."""
    from hstmap.wfc3.simulate import make_sample

    return [(image.filename, image.content) for image in make_sample(N_IMAGES)]


@pytest.fixture
def source(deployment: Any, images: list[tuple[str, bytes]]) -> str:
    """The frames in the deployment's bucket."""
    url = f"s3://{deployment.settings.bucket}/images"
    store = open_store(url)
    for name, content in images:
        store.put(name, content)
    return url


def hstmap(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a user does, led to the loopback AWS by the environment."""
    command = [sys.executable, "-m", "hstmap", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)


def contents(url: str) -> dict[str, bytes]:
    """What of a run must not depend on where it ran."""
    store = open_store(url)
    names = [info.key for prefix in ("catalogs/", "sources") for info in store.list(prefix)]
    return {name: store.get(name) for name in names}


def on_this_machine(source: str, out: str, folder: Path) -> dict[str, bytes]:
    """Do the same on Lithops' localhost, once."""
    words = ("map", source, "--out", out, "--config", local_config(folder), "--batch-size", "1")
    done = hstmap(*words, "--workers", "2")
    assert done.returncode == 0, done.stderr
    return contents(out)


def local_config(folder: Path) -> str:
    config = folder / "local.yaml"
    config.write_text("lithops: {backend: localhost, storage: localhost}\n")
    return str(config)


def on_lambda(deployment: Any, source: str, out: str, folder: Path, *words: str) -> str:
    config = deployment.write_config(folder)
    done = hstmap("map", source, "--out", out, "--config", str(config), "--batch-size", "1", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_summary_is_the_one_of_this_machine_byte_by_byte(deployment, source, tmp_path):
    bucket = f"s3://{deployment.settings.bucket}"
    out_here = f"{bucket}/here-{uuid.uuid4().hex}"
    here = on_this_machine(source, out_here, tmp_path)
    out = f"{bucket}/there-{uuid.uuid4().hex}"
    said = on_lambda(deployment, source, out, tmp_path)
    assert f"{N_IMAGES} ok" in said
    assert len(here) == N_IMAGES + 1
    assert contents(out) == here
    # The same run again, with its sources in several files that tasks write.
    words = ("--rows-a-file", "500", "--config")
    done = hstmap("reduce", out_here, *words, local_config(tmp_path))
    assert done.returncode == 0, done.stderr
    n_run = len(deployment.runs())
    done = hstmap("reduce", out, *words, str(deployment.write_config(tmp_path)))
    assert done.returncode == 0, done.stderr
    n_files = len(contents(out)) - N_IMAGES
    assert 1 < n_files == len(deployment.runs()) - n_run
    assert f"in {n_files} files" in done.stdout
    assert contents(out) == contents(out_here)
    bill = hstmap("bill", out)
    assert f"in {N_IMAGES + n_files} REPORT lines, of which 0 ms are unexplained" in bill.stdout


def test_what_is_not_there_and_what_is_broken_is_accounted_for(deployment, source, tmp_path):
    bucket = deployment.settings.bucket
    store = open_store(f"s3://{bucket}/mixed")
    store.put("broken_flt.fits", b"SIMPLE  =                    T" + b"junk" * 1000)
    keys = tmp_path / "keys.txt"
    first = next(info.key for info in open_store(source).list())
    names = [f"{source}/{first}", f"s3://{bucket}/mixed/broken_flt.fits"]
    names.append(f"s3://{bucket}/mixed/nothing_flt.fits")
    keys.write_text("\n".join(names))
    out = f"s3://{bucket}/accounted-{uuid.uuid4().hex}"
    config = deployment.write_config(tmp_path)
    done = hstmap("map", str(keys), "--out", out, "--config", str(config))
    assert done.returncode == 1
    for words in ("1 ok", "1 failed", "1 missing"):
        assert words in done.stdout, done.stdout + done.stderr


# -- as in 2018 ------------------------------------------------------------------------------------


@pytest.fixture
def function_of_2018(deployment: Any) -> Any:
    """A function made as the article makes it: from a zip in S3, with all defaults."""
    client = deployment.aws.client("lambda")
    listing = deployment.aws.client("s3").list_objects_v2(
        Bucket=deployment.settings.bucket, Prefix="hstmap-packages/"
    )
    name = f"extractor-{uuid.uuid4().hex[:6]}"
    client.create_function(
        FunctionName=name,
        Runtime=HOST_RUNTIME,
        Role=deployment.settings.role,
        Handler="hstmap.handler.handle",
        Code={"S3Bucket": deployment.settings.bucket, "S3Key": listing["Contents"][0]["Key"]},
        Timeout=120,
        MemorySize=1024,
    )
    yield name
    client.delete_function(FunctionName=name)


def test_the_events_of_2018_work_with_plain_boto3(deployment, source, function_of_2018):
    aws, bucket = deployment.aws, deployment.settings.bucket
    client, s3 = aws.client("lambda"), aws.client("s3")
    s3.create_bucket(Bucket="output-of-2018")
    keys = [f"images/{info.key}" for info in open_store(source).list()]
    for key in keys:
        event = {"fits_s3_key": key, "fits_s3_bucket": bucket, "s3_output_bucket": "output-of-2018"}
        client.invoke(
            FunctionName=function_of_2018, InvocationType="Event", Payload=json.dumps(event)
        )
    aws.wait_until_idle(120)

    listing = s3.list_objects_v2(Bucket="output-of-2018")
    roots = [Path(key).name.partition("_")[0] for key in keys]
    found = [item["Key"] for item in listing["Contents"]]
    assert found == sorted(f"{root}/{root}.catalog.fits" for root in roots)
    body = s3.get_object(Bucket="output-of-2018", Key=found[0])["Body"].read()
    assert len(Table.read(io.BytesIO(body), format="fits")) > 50

    events = aws.client("logs").filter_log_events(logGroupName=f"/aws/lambda/{function_of_2018}")
    lines = [item["message"] for item in events["events"]]
    reports = [parse_report(line) for line in lines if line.startswith("REPORT")]
    assert len(reports) == N_IMAGES
    assert all(report.billed_duration_ms > 0 for report in reports)


def test_an_image_of_2018_that_cannot_be_used_fails_its_invocation(deployment, function_of_2018):
    client = deployment.aws.client("lambda")
    event = {"fits_s3_key": "no/thing_drz.fits", "fits_s3_bucket": deployment.settings.bucket}
    payload = json.dumps(event | {"s3_output_bucket": deployment.settings.bucket})
    answer = client.invoke(FunctionName=function_of_2018, Payload=payload, LogType="Tail")
    assert answer["FunctionError"] == "Unhandled"
    assert json.loads(answer["Payload"].read())["errorType"] == "EngineError"


def test_an_event_of_no_known_kind_is_refused(deployment):
    client = deployment.aws.client("lambda")
    answer = client.invoke(FunctionName="hstmap", Payload=b'{"hello": 1}')
    told = json.loads(answer["Payload"].read())
    assert told["errorType"] == "UsageError"
    assert "fits_s3_key" in told["errorMessage"]


def test_an_event_of_another_version_is_refused_by_the_worker(deployment):
    client = deployment.aws.client("lambda")
    event = {"hstmap_call": {"version": "0.0.1"}}
    answer = client.invoke(FunctionName="hstmap", Payload=json.dumps(event))
    told = json.loads(answer["Payload"].read())
    assert told["errorType"] == "StaleRuntimeError"
    assert "0.0.1" in told["errorMessage"]


# -- the demonstration -----------------------------------------------------------------------------


def test_the_demonstration_goes_through_everything(tmp_path, images, monkeypatch):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    frames = tmp_path / "frames"
    frames.mkdir()
    for name, content in images[:2]:
        (frames / name).write_bytes(content)
    out = tmp_path / "demo"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    done = hstmap("local-aws", "--demo", str(frames), "--out", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    for command in ("doctor", "deploy", "map", "reduce", "bill", "undeploy"):
        assert f"$ hstmap {command}" in done.stdout
    assert "2 ok" in done.stdout
    assert "of the REPORT lines" in done.stdout
    billed = re.search(
        r"^billed +([\d,]+) ms in (\d+) REPORT lines, of which 0 ms", done.stdout, re.M
    )
    assert f"billed {billed[1]} ms in {billed[2]} invocations by its own log" in done.stdout
    rows = pyarrow.parquet.read_table(out / "reports.parquet")
    assert f"{sum(rows['billed_duration_ms'].to_pylist()):,}" == billed[1]
    assert (out / "sources.parquet").stat().st_size > 1000
    assert len(list((out / "catalogs").iterdir())) == 2
