"""Control groups of both versions: where they are made, and what is written into their files."""

from __future__ import annotations

import subprocess

import pytest

from hstmap.aws.local.cgroups import Cgroups, CgroupV1, CgroupV2, find_cgroups
from hstmap.aws.local.processes import own_identity


@pytest.fixture
def no_trial(monkeypatch):
    """Folders that only look like control groups cannot be tried out."""
    monkeypatch.setattr(Cgroups, "try_out", lambda self: None)


def write(path, text=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def make_v2(root, own, delegating):
    write(root / "cgroup.controllers", "cpu memory pids")
    folder = root
    for name in ["", *own.split("/")]:
        folder = folder / name
        handed_down = "cpu memory pids" if folder in delegating else "pids"
        write(folder / "cgroup.subtree_control", handed_down)
    write(root.parent / "self", f"0::/{own}\n")
    return root.parent / "self"


def test_version_2_groups_lie_below_the_nearest_ancestor_that_hands_controllers_down(
    tmp_path, no_trial
):
    root = tmp_path / "cgroup"
    near = root / "user.slice"
    own = make_v2(root, "user.slice/session.scope", {root, near})
    groups = find_cgroups(root, own)
    assert groups.version == 2
    (join,) = groups.make("x").join_files
    assert join == near / "hstmap-x" / "cgroup.procs"


def test_version_2_without_controllers_says_what_to_do(tmp_path, no_trial):
    root = tmp_path / "cgroup"
    own = make_v2(root, "user.slice/session.scope", set())
    with pytest.raises(OSError, match="systemd-run"):
        find_cgroups(root, own)


def test_version_1_groups_lie_below_the_own_ones(tmp_path, no_trial):
    root = tmp_path / "cgroup"
    for path in ("cpu", "freezer", "memory/mine"):
        (root / path).mkdir(parents=True)
    # The cpu controller's path is a container's host's, and not mounted here.
    write(tmp_path / "self", "3:memory:/mine\n2:freezer:/\n1:cpu,cpuacct:/docker/123\n")
    groups = find_cgroups(root, tmp_path / "self")
    assert groups.version == 1
    folders = {path.parent for path in groups.make("x").join_files}
    assert folders == {
        root / "memory/mine/hstmap-x",
        root / "freezer/hstmap-x",
        root / "cpu/hstmap-x",
    }


def test_version_1_without_a_controller_says_which(tmp_path, no_trial):
    (tmp_path / "cgroup" / "cpu").mkdir(parents=True)
    write(tmp_path / "self", "1:cpu:/\n")
    with pytest.raises(OSError, match="freezer"):
        find_cgroups(tmp_path / "cgroup", tmp_path / "self")


def test_version_2_files(tmp_path):
    folder = tmp_path / "group"
    write(folder / "memory.swap.max")
    write(folder / "memory.stat", "anon 4096\nfile 8192\n")
    write(folder / "memory.events", "oom 1\noom_kill 2\n")
    group = CgroupV2(dict.fromkeys(CgroupV2.CONTROLLERS, folder))
    group.set_memory(1 << 20)
    group.set_cpu(0.5)
    group.set_frozen(True)
    texts = {path.name: path.read_text() for path in folder.iterdir()}
    assert texts["memory.max"] == "1048576"
    assert texts["memory.swap.max"] == "0"
    assert texts["cpu.max"] == "10000 20000"
    assert texts["cgroup.freeze"] == "1"
    assert group.anonymous_nbytes() == 4096
    assert group.n_memory_kills() == 2
    group.set_cpu(None)
    assert (folder / "cpu.max").read_text() == "max 20000"


def test_version_1_files(tmp_path):
    folders = {controller: tmp_path / controller for controller in CgroupV1.CONTROLLERS}
    write(tmp_path / "memory" / "memory.stat", "rss 1\ntotal_rss 4096\n")
    write(tmp_path / "memory" / "memory.oom_control", "under_oom 0\noom_kill 1\n")
    group = CgroupV1(folders)
    group.set_memory(1 << 20)
    group.set_cpu(0.25)
    group.set_frozen(False)
    assert (tmp_path / "memory" / "memory.limit_in_bytes").read_text() == "1048576"
    assert (tmp_path / "cpu" / "cpu.cfs_quota_us").read_text() == "5000"
    assert (tmp_path / "cpu" / "cpu.cfs_period_us").read_text() == "20000"
    assert (tmp_path / "freezer" / "freezer.state").read_text() == "THAWED"
    assert group.anonymous_nbytes() == 4096
    assert group.n_memory_kills() == 1


def test_the_smallest_share_is_what_the_kernel_can_do(tmp_path):
    group = CgroupV2(dict.fromkeys(CgroupV2.CONTROLLERS, tmp_path / "group"))
    group.set_cpu(0.001)
    quota_us, _ = (tmp_path / "group" / "cpu.max").read_text().split()
    assert int(quota_us) == 1000


def test_groups_that_only_some_controllers_allow_leave_nothing(tmp_path):
    (tmp_path / "allowed").mkdir()
    folders = {"cpu": tmp_path / "allowed" / "x", "memory": tmp_path / "missing" / "x"}
    with pytest.raises(FileNotFoundError):
        CgroupV1(folders)
    assert list((tmp_path / "allowed").iterdir()) == []


@pytest.fixture
def real_groups():
    try:
        return find_cgroups()
    except OSError as error:
        pytest.skip(f"no control groups on this machine: {error}")


def test_real_groups_hold_processes_until_they_are_killed_and_removed(real_groups):
    name = f"test-{own_identity()}"
    group = real_groups.make(name)
    try:
        files = " ".join(f"&& echo 0 > {path}" for path in group.join_files)
        process = subprocess.Popen(["/bin/sh", "-c", f"true {files} && exec sleep 60"])
        while not all(path.read_text() for path in group.join_files):
            assert process.poll() is None
        group.set_frozen(True)
        assert not group.kill(spared=process.pid)
        assert process.poll() is None
        assert group.kill()
        assert process.wait() == -9
    finally:
        real_groups.remove_groups([name])
    assert not any(path.parent.exists() for path in group.join_files)
