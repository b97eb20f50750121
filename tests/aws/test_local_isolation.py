"""What holds environments in: file system, user, memory, CPU share, cores - and life without."""

from __future__ import annotations

import base64
import itertools
import shutil
import sys

import pytest

from hstmap.aws.local import LocalAws, LocalAwsOptions
from hstmap.aws.local.functions import VCPU_MB
from hstmap.aws.local.isolation import find_isolation
from hstmap.aws.local.processes import marked_processes
from hstmap.errors import UsageError

LOOK = """
import getpass, os, pathlib, tempfile, time

def attempt(path):
    try:
        pathlib.Path(path).write_text("x")
        return "written"
    except OSError as error:
        return type(error).__name__

def handler(event, context):
    here = pathlib.Path(__file__).parent
    return {
        "task": attempt(here / "new.py"),
        "usr": attempt("/usr/new"),
        "tmp": attempt(pathlib.Path(tempfile.gettempdir()) / "new"),
        "uid": os.getuid(),
        "user": getpass.getuser(),
        "n_processes": len([p for p in os.listdir("/proc") if p.isdecimal()]),
        "root": sorted(os.listdir("/")),
        "tmp_files": sorted(os.listdir(tempfile.gettempdir())),
    }
"""

BURN = """
import time

def burn(cpu_s):
    began = time.process_time()
    while time.process_time() - began < cpu_s:
        sum(range(1000))

init_wall_s = time.monotonic()
burn(0.1)
init_wall_s = time.monotonic() - init_wall_s

def handler(event, context):
    began = time.monotonic()
    burn(event)
    return {"init_s": init_wall_s, "wall_s": time.monotonic() - began}
"""


@pytest.fixture
def sandboxed(local_aws):
    if local_aws.isolation.bubblewrap is None:
        pytest.skip(f"no sandbox on this machine: {local_aws.isolation.remarks}")


@pytest.fixture
def enforced(local_aws):
    if local_aws.isolation.cgroups is None:
        pytest.skip(f"no control groups on this machine: {local_aws.isolation.remarks}")


def test_a_sandbox_is_read_only_but_for_tmp_and_has_its_own_user(deploy, sandboxed):
    seen = deploy.invoke(deploy(LOOK))["Payload"]
    assert (seen["task"], seen["usr"], seen["tmp"]) == ("OSError", "OSError", "written")
    assert (seen["uid"], seen["user"]) == (993, "sbx_user1051")
    assert seen["n_processes"] <= 3
    assert "home" in seen["root"]
    assert "work" not in seen["root"]


def test_tmp_is_the_environments_own_and_lives_as_long(deploy, sandboxed):
    name, other = deploy(LOOK), deploy(LOOK)
    before = deploy.invoke(name)["Payload"]["tmp_files"]
    assert "new" in before
    assert deploy.invoke(name)["Payload"]["tmp_files"] == before
    source = "import os\ndef handler(event, context):\n    return os.path.exists('/tmp/new')\n"
    assert deploy.invoke(deploy(source))["Payload"] is False
    assert deploy.invoke(other)["Payload"]["tmp"] == "written"


def test_the_cpu_share_is_that_of_the_memory(deploy, enforced):
    small, large = deploy(BURN, MemorySize=442), deploy(BURN, MemorySize=1769)
    # However busy the host is, nobody gets more; only then may one get less.
    small_share = 0.3 / deploy.invoke(small, 0.3)["Payload"]["wall_s"]
    assert small_share <= 442 / VCPU_MB * 1.15
    for _ in range(10):
        large_share = 0.3 / deploy.invoke(large, 0.3)["Payload"]["wall_s"]
        if large_share > 1.3 * small_share:
            break
    assert 1.3 * small_share < large_share <= 1.15


def test_init_has_the_whole_cpu(deploy, enforced):
    name = deploy(BURN, MemorySize=128)
    answer = deploy.invoke(name, 0.1)["Payload"]
    # The same work: 0.07 of a vCPU in the handler, unlimited in INIT.
    assert answer["wall_s"] > answer["init_s"]


def test_an_idle_environment_is_frozen(deploy, runs_of, enforced):
    source = (
        "import threading, time\n"
        "ticks = 0\n"
        "def tick():\n"
        "    global ticks\n"
        "    while True:\n"
        "        ticks += 1\n"
        "        time.sleep(0.001)\n"
        "threading.Thread(target=tick, daemon=True).start()\n"
        "def handler(event, context):\n"
        "    began = ticks\n"
        "    time.sleep(event)\n"
        "    return [began, ticks]\n"
    )
    name = deploy(source, MemorySize=1769)
    _, before = deploy.invoke(name, 0.2)["Payload"]
    # Something else takes a while; a thread that went on would tick hundreds of times in it.
    deploy.invoke(deploy("import time\ndef handler(e, c):\n    time.sleep(0.5)\n"))
    after, _ = deploy.invoke(name, 0)["Payload"]
    assert after - before < 100


def test_environments_that_do_not_fit_onto_the_cores_wait(deployer_for):
    options = LocalAwsOptions(n_cores=1.0, retry_delays_s=(0.01,))
    with LocalAws(options) as aws:
        deploy = deployer_for(aws)
        source = "import time\ndef handler(event, context):\n    time.sleep(0.3)\n"
        name = deploy(source, MemorySize=1024)  # 0.58 of a vCPU: one at a time
        for _ in range(3):
            deploy.send(name)
        aws.wait_until_idle()
        runs = sorted(aws.invocation_log, key=lambda run: run.started_s)
        assert len(runs) == 3
        assert all(a.ended_s <= b.started_s + 0.01 for a, b in itertools.pairwise(runs))
        assert len({run.environment for run in runs}) == 1


def test_environments_that_were_idle_for_too_long_are_ended(deployer_for, monkeypatch):
    from hstmap.aws.local import local_aws

    monkeypatch.setattr(local_aws, "_EXPIRE_EVERY_S", 0.05)
    with LocalAws(LocalAwsOptions(keep_warm_s=0.1)) as aws:
        deploy = deployer_for(aws)
        name = deploy("import os\ndef handler(event, context):\n    return event\n")
        deploy.invoke(name)
        mark = f"{aws.run_folder}/environments/"
        while marked_processes(mark):
            pass
        deploy.invoke(name)
        assert [run.is_cold for run in aws.invocation_log] == [True, True]


def test_an_init_that_takes_too_long_is_tried_again_within_the_invocation(deployer_for):
    with LocalAws(LocalAwsOptions(init_timeout_s=0.3)) as aws:
        deploy = deployer_for(aws)
        source = "import time\ntime.sleep(0.6)\ndef handler(event, context):\n    return 'late'\n"
        answer = deploy.invoke(deploy(source, Timeout=20), LogType="Tail")
        assert answer["Payload"] == "late"
        tail = base64.b64decode(answer["LogResult"]).decode()
        assert "Phase: init\tStatus: timeout\n" in tail
        (run,) = aws.invocation_log
        # The second INIT is a part of the invocation, and is paid for as such.
        assert run.report.duration_ms >= 600
        assert run.report.init_duration_ms is None
        never = deploy("import time\ntime.sleep(60)\n", Timeout=1)
        answer = deploy.invoke(never)
        assert "Task timed out after 1.00 seconds" in answer["Payload"]["errorMessage"]


@pytest.fixture(scope="module", params=["none", "bubblewrap"])
def bare_aws(request):
    """A loopback AWS as on a machine without control groups, and perhaps without bubblewrap."""
    options = LocalAwsOptions(sandbox=request.param, limits="rlimits", retry_delays_s=(0.01, 0.01))
    aws = LocalAws(options)
    try:
        aws.start()
    except UsageError as error:
        pytest.skip(str(error))
    yield aws
    aws.stop()


def test_without_control_groups_that_is_said(bare_aws):
    assert "CPU share is not enforced" in bare_aws.isolation.description


def test_functions_find_their_code_and_nothing_of_this_environment(bare_aws, deployer_for):
    deploy = deployer_for(bare_aws)
    source = (
        "import os, sys, tempfile, awslambdaric\n"
        "def handler(event, context):\n"
        "    open(os.path.join(tempfile.gettempdir(), 'x'), 'w').close()\n"
        "    return [os.getcwd(), os.environ['LAMBDA_TASK_ROOT'], awslambdaric.__file__]\n"
    )
    seen = deploy.invoke(deploy(source))["Payload"]
    sandboxed = bare_aws.isolation.bubblewrap is not None
    root = "/var/" if sandboxed else str(bare_aws.run_folder)
    assert all(path.startswith(root) for path in seen), seen
    assert seen[0] == seen[1]
    hidden = deploy("import hstmap\ndef handler(event, context):\n    pass\n")
    assert deploy.invoke(hidden)["Payload"]["errorType"] == "Runtime.ImportModuleError"


def test_without_control_groups_layers_retries_time_outs_and_warmth_are_the_same(
    bare_aws, deployer_for, zip_of
):
    deploy = deployer_for(bare_aws)
    layer = deploy.client.publish_layer_version(
        LayerName="bare", Content={"ZipFile": zip_of({"python/shared.py": "TEXT = 'layer'\n"})}
    )
    source = (
        "import shared, time\n"
        "def handler(event, context):\n"
        "    time.sleep(event)\n"
        "    return shared.TEXT\n"
    )
    name = deploy(source, Layers=[layer["LayerVersionArn"]], Timeout=1)
    assert [deploy.invoke(name, 0)["Payload"] for _ in range(2)] == ["layer", "layer"]
    deploy.send(name, 30)
    bare_aws.wait_until_idle()
    runs = [run for run in bare_aws.invocation_log if run.function == name]
    assert [run.is_cold for run in runs] == [True, False, False, True, True]
    assert [run.report.status for run in runs] == ["success"] * 2 + ["timeout"] * 3


def test_without_control_groups_memory_is_watched(bare_aws, deployer_for):
    deploy = deployer_for(bare_aws)
    source = (
        "import time\n"
        "def handler(event, context):\n"
        "    blocks = []\n"
        "    for _ in range(event // 8):\n"
        "        blocks.append(bytearray(b'x') * (8 << 20))\n"
        "        time.sleep(0.01)\n"
        "    return 'fitted'\n"
    )
    name = deploy(source, MemorySize=256)
    assert deploy.invoke(name, 64)["Payload"] == "fitted"
    assert deploy.invoke(name, 400)["Payload"]["errorType"] == "Runtime.OutOfMemory"
    report = bare_aws.invocation_log[-1].report
    assert report.max_memory_used_mb == report.memory_size_mb == 256


def test_without_control_groups_one_large_allocation_is_a_memory_error(bare_aws, deployer_for):
    deploy = deployer_for(bare_aws)
    source = "def handler(event, context):\n    return len(bytearray(2 << 30))\n"
    answer = deploy.invoke(deploy(source, MemorySize=256))
    assert answer["Payload"]["errorType"] in ("MemoryError", "Runtime.OutOfMemory")


def test_daemons_of_a_function_do_not_outlive_its_environment(bare_aws, deployer_for):
    deploy = deployer_for(bare_aws)
    source = (
        "import os, time\n"
        "def handler(event, context):\n"
        "    if os.fork() == 0:\n"
        "        os.setsid()\n"
        "        if os.fork():\n"
        "            os._exit(0)\n"
        "        time.sleep(600)\n"
        "    os.wait()\n"
    )
    name = deploy(source)
    deploy.invoke(name)
    mark = f"{bare_aws.run_folder}/environments/"
    assert len(marked_processes(mark)) >= 2
    deploy.client.delete_function(FunctionName=name)
    (environment,) = {r.environment for r in bare_aws.invocation_log if r.function == name}
    assert marked_processes(mark + environment) == []


@pytest.mark.parametrize("demand", [{"sandbox": "bubblewrap"}, {"limits": "cgroups"}])
def test_what_is_demanded_and_cannot_be_had_is_refused(monkeypatch, demand):
    def no_cgroups():
        raise OSError("none here")

    monkeypatch.setattr(shutil, "which", lambda name, path=None: None)
    monkeypatch.setattr("hstmap.aws.local.isolation.find_cgroups", no_cgroups)
    with pytest.raises(UsageError, match="demanded"):
        find_isolation(LocalAwsOptions(**demand))
    isolation = find_isolation(LocalAwsOptions())
    assert len(isolation.remarks) == 2


def test_a_runtime_of_ones_own_can_be_given(deployer_for, tmp_path):
    from hstmap.aws.local.runtime_folder import make_runtime

    other = "python3.10" if sys.version_info[:2] != (3, 10) else "python3.9"
    runtime = make_runtime(tmp_path / "lang", ["awslambdaric", "tqdm"])
    with LocalAws(LocalAwsOptions(runtimes={other: runtime})) as aws:
        deploy = deployer_for(aws)
        source = "import tqdm\ndef handler(event, context):\n    return tqdm.__name__\n"
        assert deploy.invoke(deploy(source, Runtime=other))["Payload"] == "tqdm"
        assert deploy.invoke(deploy(source))["Payload"]["errorType"] == (
            "Runtime.ImportModuleError"
        )
