"""Zip packages: unpacked once, as they were packed, and never out of their folder."""

from __future__ import annotations

import base64
import hashlib
import io
import stat
import zipfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hstmap.aws.local import packages
from hstmap.aws.local.api_error import ApiError
from hstmap.aws.local.packages import PackageStore, Zip


@pytest.fixture
def store(tmp_path):
    return PackageStore(tmp_path / "packages")


def archive(*members: tuple[str, bytes, int]) -> Zip:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as writer:
        for name, data, mode in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16 | 0x20  # as DOS marks a file
            writer.writestr(info, data)
    return Zip(buffer.getvalue())


names = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=8)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(files=st.dictionaries(names.map(str.lower), st.binary(max_size=50), max_size=5))
def test_what_is_packed_is_what_is_unpacked(tmp_path, files):
    store = PackageStore(tmp_path / "packages")
    folder = store.unpack([archive(*((name, data, 0o644) for name, data in files.items()))])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files


def test_modes_are_kept_and_missing_ones_made_readable(store):
    package = archive(("run", b"", 0o755), ("data", b"", 0o600), ("plain", b"", 0))
    folder = store.unpack([package])
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == {"run": 0o755, "data": 0o600, "plain": 0o644}


def test_links_within_the_package_are_links(store):
    package = archive(
        ("lib/a.so.1", b"library", 0o644), ("lib/a.so", b"a.so.1", stat.S_IFLNK | 0o777)
    )
    link = store.unpack([package]) / "lib" / "a.so"
    assert link.is_symlink()
    assert link.read_bytes() == b"library"


@pytest.mark.parametrize("target", [b"../../outside", b"/etc/passwd"])
def test_links_out_of_the_package_are_refused(store, target):
    with pytest.raises(ApiError, match="leads out"):
        store.unpack([archive(("lib/link", target, stat.S_IFLNK | 0o777))])


def test_members_out_of_the_package_stay_in_it(store, tmp_path):
    folder = store.unpack([archive(("../../outside", b"x", 0o644))])
    assert not (tmp_path / "outside").exists()
    assert [path.name for path in folder.rglob("*")] == ["outside"]


def test_layers_lie_over_each_other_in_order(store):
    lower = archive(("both", b"lower", 0o644), ("only", b"lower", 0o644))
    upper = archive(("both", b"upper", 0o644))
    folder = store.unpack([lower, upper])
    assert (folder / "both").read_bytes() == b"upper"
    assert (folder / "only").read_bytes() == b"lower"
    assert store.unpack([upper, lower]) != folder


def test_the_same_package_is_unpacked_once(store):
    package = archive(("a", b"1", 0o644))
    assert store.unpack([package]) == store.unpack([Zip(package.data)])


def test_what_is_no_zip_is_refused_as_aws_refuses_it_and_leaves_nothing(store, tmp_path):
    with pytest.raises(ApiError, match="Could not unzip uploaded file") as caught:
        store.unpack([Zip(b"not a zip")])
    assert (caught.value.status, caught.value.code) == (400, "InvalidParameterValueException")
    assert list((tmp_path / "packages").iterdir()) == []


def test_a_package_over_the_limit_is_refused_with_both_sizes(store, monkeypatch):
    monkeypatch.setattr(packages, "MAX_UNZIPPED_NBYTES", 10)
    task, layer = (store.unpack([archive((name, b"123456", 0o644))]) for name in "ab")
    packages.refuse_too_large([task])
    with pytest.raises(ApiError, match=r"maximum allowed size of 10 bytes.*size is 12 bytes"):
        packages.refuse_too_large([task, layer])


def test_the_digest_is_the_one_that_aws_shows():
    data = b"any bytes"
    assert base64.b64decode(Zip(data).sha256_base64) == hashlib.sha256(data).digest()
