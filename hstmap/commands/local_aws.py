"""Start an AWS of one's own on this machine, to try everything without an account.

It runs until Ctrl-C; what it prints leads other shells there. With --demo it goes through doctor,
deploy, map, reduce, bill and undeploy by itself, on SOURCE or a few simulated images, and ends.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hstmap.aws.local import LocalAws
    from hstmap.cli import Console

HELP = "start a loopback AWS, or a demonstration on it"

# The bucket of images is named so that workers may read it.
_CONFIG = """\
lithops:
  backend: aws_lambda
  storage: aws_s3
  monitoring_interval: 0.2
aws:
  region: {region}
aws_lambda:
  runtime_memory: 1769
  runtime_timeout: 180
  max_workers: {n_workers}
  buckets: [{bucket}-images]
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("sources", metavar="SOURCE", nargs="*", help="images for the demonstration")
    parser.add_argument("--demo", action="store_true", help="deploy, run, undeploy, and end")
    parser.add_argument(
        "-o", "--out", type=Path, default=Path("hstmap-aws-demo"), metavar="DIR",
        help="where the demonstration keeps its results (default: %(default)s)",
    )  # fmt: skip


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Serve, or demonstrate."""
    from hstmap.aws.local import LocalAws, serve

    if not arguments.demo:

        def ready(aws: LocalAws) -> None:
            for name, value in aws.environment.items():
                console.give(f"export {name}={value}")
            console.warn(f"{aws.isolation.description}; Ctrl-C ends it")

        serve(ready=ready)
        return 0
    with LocalAws() as aws:
        console.say(f"loopback  {aws.isolation.description}")
        return _demonstrate(aws, arguments, console)


def _demonstrate(aws: LocalAws, arguments: argparse.Namespace, console: Console) -> int:
    """Go through all commands, as a user would in a shell."""
    import subprocess

    from hstmap.aws.settings import default_bucket

    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    config = out / "lithops_config.yaml"
    n_workers = min(aws.options.concurrency, len(os.sched_getaffinity(0)))
    bucket = default_bucket(aws.options.account_id, aws.options.region)
    settings = {"region": aws.options.region, "n_workers": n_workers, "bucket": bucket}
    config.write_text(_CONFIG.format(**settings))
    run_url, target = f"s3://{bucket}/demo", ["--config", str(config)]
    sources = _uploaded(aws, bucket, arguments.sources)
    scripts: list[tuple[list[str], set[int]]] = [
        (["doctor", *target], {0, 1}),  # nothing is deployed yet, and it says so
        (["deploy", *target], {0}),
        (["doctor", *target], {0}),
        (["map", *sources, "--out", run_url, "--no-reduce", *target], {0, 1}),
        (["reduce", run_url], {0, 1}),
        (["bill", run_url], {0}),
        (["undeploy", *target], {0}),
    ]
    # The client's own, but none that leads to another AWS.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment = inherited | aws.environment
    for words, allowed in scripts:
        console.say(f"\n$ hstmap {' '.join(words)}")
        command = [sys.executable, "-m", "hstmap", *words]
        status = subprocess.run(command, env=environment, check=False).returncode
        if status not in allowed:
            console.warn(f"hstmap {words[0]} ended with {status}")
            return 1
        if words[0] == "map":
            aws.wait_until_idle()
    _keep(aws, bucket, out)
    deployment, *calls = [record.report.billed_duration_ms for record in aws.invocation_log]
    console.say(
        f"\nlambda    billed {sum(calls):,} ms in {len(calls)} invocations by its own log, and "
        f"{deployment:,} ms for what deploy has tried"
    )
    console.say(f"results   {out / 'sources.parquet'}")
    return 0


def _uploaded(aws: LocalAws, bucket: str, sources: list[str]) -> list[str]:
    """Put local files where Lambda can read them, in a bucket of their own."""
    local = [Path(source) for source in sources if "://" not in source]
    if not local:
        return sources
    client, images = aws.client("s3"), f"{bucket}-images"
    client.create_bucket(Bucket=images)
    for source in local:
        files = source.rglob("*.fits*") if source.is_dir() else [source]
        for file in files:
            client.upload_file(str(file), images, file.name)
    return [source for source in sources if "://" in source] + [f"s3://{images}"]


def _keep(aws: LocalAws, bucket: str, out: Path) -> None:
    """Bring the results here: the loopback AWS forgets everything when it ends."""
    client = aws.client("s3")
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="demo/"):
        for item in page.get("Contents", ()):
            file = out / item["Key"].removeprefix("demo/")
            if not file.name.endswith(("_flt.fits", ".ecsv")):
                file.parent.mkdir(parents=True, exist_ok=True)
                client.download_file(bucket, item["Key"], str(file))
