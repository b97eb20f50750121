"""Lithops, a client that knows nothing of the loopback AWS, deploys itself and maps over it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid

import pytest

from hstmap.aws.local import LocalAws, LocalAwsOptions
from hstmap.aws.local.runtime_folder import HOST_RUNTIME

# Lithops signs its asynchronous invocations by hand for amazonaws.com; this sends them where
# all its other clients go. Everything else is Lithops as it is.
CLIENT = """
import json, sys
import lithops
from lithops.serverless.backends import aws_lambda as package
from lithops.serverless.backends.aws_lambda.aws_lambda import AWSLambdaBackend

class Backend(AWSLambdaBackend):
    def invoke(self, runtime_name, runtime_memory, payload):
        answer = self.lambda_client.invoke(
            FunctionName=self._format_function_name(runtime_name, runtime_memory),
            InvocationType="Event",
            Payload=json.dumps(payload, default=str),
        )
        return answer["ResponseMetadata"]["RequestId"]

package.ServerlessBackend = Backend

def hello(x):
    import os
    return [x * x, os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]]

if __name__ == "__main__":
    config = json.loads(sys.argv[1])
    with lithops.FunctionExecutor(config=config, log_level="ERROR") as executor:
        futures = executor.map(hello, range(4))
        print(json.dumps(executor.get_result(futures)))
        print(json.dumps([f.stats["worker_cold_start"] for f in futures]))
        executor.clean(clean_cloudobjects=False)
"""


@pytest.fixture(scope="module")
def lithops_aws():
    """A loopback AWS whose functions find what Lithops' own layer would bring."""
    pytest.importorskip("lithops", reason="lithops is not installed")
    packages = ("awslambdaric", "boto3", "lithops", "numpy")
    with LocalAws(LocalAwsOptions(runtime_packages=packages, concurrency=4)) as aws:
        yield aws


@pytest.fixture
def config(lithops_aws, make_role, zip_of):
    """Lithops' configuration, with a bucket, a role, and the layer that it would build by pip."""
    bucket = f"lithops-{uuid.uuid4().hex[:8]}"
    lithops_aws.client("s3").create_bucket(Bucket=bucket)
    identity = lithops_aws.client("sts").get_caller_identity()
    user = identity["UserId"].split(":")[0][-4:].lower()
    version = HOST_RUNTIME.removeprefix("python").replace(".", "")
    from lithops import __version__

    package = f"lithops_v{__version__.replace('.', '')}_{user}"
    lithops_aws.client("lambda").publish_layer_version(
        LayerName=f"{package}_default-runtime-v{version}_layer",
        Content={"ZipFile": zip_of({"python/of-the-runtime.txt": ""})},
    )
    return {
        "lithops": {"backend": "aws_lambda", "storage": "aws_s3", "monitoring_interval": 0.2},
        "aws": {"region": "us-east-1"},
        "aws_lambda": {
            "execution_role": make_role(lithops_aws),
            "runtime_memory": 1024,
            "runtime_timeout": 60,
        },
        "aws_s3": {"storage_bucket": bucket},
    }


def test_lithops_deploys_itself_and_maps(lithops_aws, config, tmp_path):
    client = tmp_path / "client.py"
    client.write_text(CLIENT)
    (tmp_path / "tmp").mkdir()
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("AWS_", "LITHOPS_"))}
    private = {"HOME": str(tmp_path), "TMPDIR": str(tmp_path / "tmp")}
    result = subprocess.run(
        [sys.executable, str(client), json.dumps(config)],
        env={**kept, **private, **lithops_aws.environment},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    results, colds = map(json.loads, result.stdout.splitlines()[-2:])
    assert results == [[x * x, "1024"] for x in range(4)]

    lithops_aws.wait_until_idle()
    runs = lithops_aws.invocation_log
    assert len(runs) == 5  # the runtime's metadata, and four calls
    assert not any(run.is_error for run in runs)
    assert len({run.environment for run in runs}) <= 4  # the account's concurrency
    assert len(colds) == 4
    operations = [record.operation for record in lithops_aws.request_log]
    assert operations.count("Invoke") == 5
    assert operations.count("CreateFunction") == 1
    assert all(record.status < 400 for record in lithops_aws.request_log)
    (name,) = {run.function for run in runs}
    shown = lithops_aws.client("lambda").get_function(FunctionName=name)
    assert shown["Tags"]["runtime_name"].startswith("default-runtime")
