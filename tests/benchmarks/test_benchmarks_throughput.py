"""What the benchmark of throughput rests on: the slow S3, the recorded calls, the plain script."""

from __future__ import annotations

import argparse
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sep

from benchmarks import bound, throughput
from benchmarks.bare_reader import BareReader, Objects
from benchmarks.bound import record_calls
from benchmarks.frames import lay_out, manifest_of, rootname, simulate_frames
from benchmarks.measuring import Spread
from benchmarks.plain import make_table, plain_catalog
from benchmarks.sep_calls import recorded
from benchmarks.throttled_s3 import Pace, serve
from hstmap.batch import RunParameters
from hstmap.errors import MissingObjectError
from hstmap.storage import StorageOptions, open_store
from hstmap.wfc3.detect import detect
from hstmap.wfc3.image import read_image
from hstmap.wfc3.measure import measure


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> Path:
    (path,) = simulate_frames(tmp_path_factory.mktemp("frames"), 1, "sparse")
    return path


@pytest.fixture(scope="module")
def ours(frame: Path) -> dict[str, np.ndarray]:
    """hstmap's own columns of that frame."""
    parameters = RunParameters()
    with frame.open("rb") as file:
        image = read_image(file, frame.name, parameters.read)
    return measure(image, detect(image, parameters.detection), parameters.measure)


# -- the plain script ----------------------------------------------------------------------------


def test_the_plain_script_has_the_same_sources_and_measurements(
    frame: Path, ours: dict[str, np.ndarray]
) -> None:
    table = make_table(str(frame), RunParameters().as_dict())
    assert len(table) > 100
    for plain, name in (("x", "x_barycentre"), ("y", "y_barycentre"), ("x_win", "x")):
        np.testing.assert_array_equal(table[plain], ours[name])
    for name in ("ra", "dec"):
        np.testing.assert_allclose(table[name], ours[name], rtol=0, atol=1e-9)
    for name in ("flux_auto", "half_light_radius", "pixel_area"):
        np.testing.assert_allclose(table[name], ours[name], rtol=1e-4, err_msg=name)
    # hstmap takes each frame's own scale: a sample of a pixel falls on the other side at times.
    for name in ("flux_aper_1", "flux_aper_2"):
        np.testing.assert_allclose(table[name], ours[name], rtol=1e-2, err_msg=name)
    bright = np.asarray(table["flux_auto"] > 0)
    np.testing.assert_allclose(table["mag_auto"][bright], ours["mag_auto"][bright], atol=1e-3)


def test_the_plain_script_writes_a_table(frame: Path, tmp_path: Path) -> None:
    n_sources = plain_catalog(str(frame), str(tmp_path), RunParameters().as_dict())
    (written,) = tmp_path.iterdir()
    assert n_sources > 100
    assert written.name == "isim01a1q_cat.fits"


# -- recorded calls ------------------------------------------------------------------------------


def test_recorded_calls_are_those_of_a_measurement(
    frame: Path, ours: dict[str, np.ndarray]
) -> None:
    calls = record_calls(frame)
    names = calls.names()
    for name in ("Background", "back", "rms", "extract", "kron_radius", "sum_circle", "winpos"):
        assert name in names
    assert names.index("Background") < names.index("extract") < names.index("kron_radius")
    found = calls.replay()
    np.testing.assert_array_equal(found["x"], ours["x_barycentre"])
    np.testing.assert_array_equal(found["y"], ours["y_barycentre"])


def test_arrays_are_kept_as_they_were_when_called() -> None:
    data = np.random.default_rng(1).normal(10.0, 1.0, (200, 200)).astype(np.float32)
    data[100, 100] += 500.0
    data[101, 100] += 500.0
    with recorded() as calls:
        background = sep.Background(data)
        data -= background.back()
        objects = sep.extract(data, 20.0, minarea=1, filter_kernel=None)
        data[:] = 0.0
    assert len(objects) == 1
    assert background.globalback == pytest.approx(10.0, abs=0.1)
    np.testing.assert_array_equal(calls.replay(), objects)
    assert calls.names() == ["Background", "back", "extract"]


def test_equal_arrays_are_kept_once() -> None:
    data = np.random.default_rng(1).normal(10.0, 1.0, (200, 200)).astype(np.float32)
    with recorded() as calls:
        sep.Background(data)
        sep.extract(data, 1000.0)
        sep.extract(data.copy(), 1000.0)
    first, second, third = (call.args[0] for call in calls.calls)
    assert first is second is third
    assert first is not data


def test_sep_is_itself_again_afterwards() -> None:
    before = sep.extract, sep.Background
    with pytest.raises(ZeroDivisionError), recorded():
        raise ZeroDivisionError
    assert (sep.extract, sep.Background) == before


def test_a_bound_without_an_extraction_is_none() -> None:
    with pytest.raises(RuntimeError, match="extract"), recorded():
        sep.Background(np.zeros((100, 100), dtype=np.float32))


# -- the slow S3 ---------------------------------------------------------------------------------

CONTENT = bytes(range(256)) * 2000


@pytest.fixture
def slow_s3(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b c.bin").write_bytes(CONTENT)
    (tmp_path / "empty").write_bytes(b"")
    listener, port = serve(tmp_path, Pace(1e9))
    yield StorageOptions(unsigned=True, endpoint_url=f"http://127.0.0.1:{port}")
    listener.close()


def test_whole_objects_and_ranges_come(slow_s3: StorageOptions) -> None:
    store = open_store("s3://any", slow_s3)
    assert store.get("a/b c.bin") == CONTENT
    assert store.get_range("a/b c.bin", 100, 300) == CONTENT[100:300]
    info = store.head("a/b c.bin")
    assert info.nbytes == len(CONTENT)
    with store.open_ranged("a/b c.bin", 1000) as file:
        assert file.info.etag == info.etag
        file.seek(-10, 2)
        assert file.read() == CONTENT[-10:]


def test_more_than_there_is_comes_as_far_as_it_goes(slow_s3: StorageOptions) -> None:
    store = open_store("s3://any", slow_s3)
    with store.open_ranged("a/b c.bin", 10 * len(CONTENT)) as file:
        assert file.info.nbytes == len(CONTENT)
        assert file.read() == CONTENT


@pytest.mark.parametrize("key", ["a/nothing", "a"])
def test_what_is_not_there_is_missing(slow_s3: StorageOptions, key: str) -> None:
    with pytest.raises(MissingObjectError):
        open_store("s3://any", slow_s3).get(key)


def test_an_empty_object_is_empty(slow_s3: StorageOptions) -> None:
    assert open_store("s3://any", slow_s3).get("empty") == b""


def ask(options: StorageOptions, request: str) -> bytes:
    port = int(str(options.endpoint_url).rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(request.encode() + b"\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while news := connection.recv(65_536):
            answer += news
    return answer


def test_what_it_does_not_do_it_refuses(slow_s3: StorageOptions) -> None:
    assert b" 405 " in ask(slow_s3, "PUT /any/x HTTP/1.1")
    assert b" 404 " in ask(slow_s3, "GET /any/../../secret HTTP/1.1")
    beyond = "GET /any/a/b%20c.bin HTTP/1.1\r\nrange: bytes=600000-600010"
    assert b" 416 " in ask(slow_s3, beyond)
    last = ask(slow_s3, "GET /any/a/b%20c.bin HTTP/1.1\r\nrange: bytes=-4")
    assert last.endswith(b"\r\n\r\n" + CONTENT[-4:])
    n = len(CONTENT)
    assert f"bytes {n - 4}-{n - 1}/{n}".encode() in last


def test_a_connection_is_never_faster_than_its_pace(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(CONTENT)
    nbytes_s, latency_s = 8e6, 0.05
    listener, port = serve(tmp_path, Pace(nbytes_s, latency_s))
    options = StorageOptions(unsigned=True, endpoint_url=f"http://127.0.0.1:{port}")
    begun = time.monotonic()
    open_store("s3://any", options).get("x")
    # It can be slower, on a busy machine.
    assert time.monotonic() - begun >= 0.95 * len(CONTENT) / nbytes_s
    listener.close()


# -- the comparison ------------------------------------------------------------------------------


def test_the_spread_of_values() -> None:
    assert Spread([3.0]).as_dict() == {"median": 3.0, "low": 3.0, "high": 3.0, "n": 1}
    assert Spread([5.0, 1.0, 2.0, 4.0, 3.0]).as_dict() == {
        "median": 3.0, "low": 2.0, "high": 4.0, "n": 5,
    }  # fmt: skip


def test_contestants_take_turns_and_change_the_order() -> None:
    order: list[str] = []

    def contestant(name: str) -> throughput.Contestant:
        def run() -> tuple[float, float]:
            order.append(name)
            return float(len(order)), 0.5

        return run

    legs = throughput.take_turns({name: contestant(name) for name in "abc"}, 2)
    assert "".join(order) == "abccba"
    assert legs["a"].wall_s == [1.0, 6.0]
    assert legs["b"].cpu_s == [0.5, 0.5]


def test_ratios_are_taken_within_a_round() -> None:
    legs = {
        "bound": throughput.Leg([1.0, 4.0, 2.0], [2.0, 2.0, 2.0]),
        "local": throughput.Leg([2.0, 5.0, 4.0], [4.0, 2.5, 2.0]),
    }
    figures = throughput.compared(legs, 8, start_s=6.0)
    assert figures["bound"]["images_s"]["median"] == 4.0
    assert figures["local"]["images_s"]["median"] == 2.0
    assert figures["local"]["of_bound"]["median"] == 0.5
    assert figures["local"]["of_bound_cpu"]["median"] == 0.8
    assert figures["local"]["of_bound_with_start"]["median"] == pytest.approx(0.2)
    assert figures["local"]["cpu_ms_an_image"]["median"] == pytest.approx(312.5)
    assert "of_bound" not in figures["bound"]


def test_a_served_run_is_compared_with_both_bounds() -> None:
    legs = {
        "bound": throughput.Leg([1.0, 4.0], [2.0, 2.0]),
        "bound_s3": throughput.Leg([2.0, 5.0], [3.0, 2.5]),
        "local": throughput.Leg([2.0, 8.0], [4.0, 4.0]),
        "s3": throughput.Leg([4.0, 10.0], [6.0, 5.0]),
    }
    figures = throughput.compared(legs, 8, start_s=6.0)
    assert figures["bound_s3"]["of_bound"]["median"] == pytest.approx((1 / 2 + 4 / 5) / 2)
    assert figures["s3"]["of_bound"]["median"] == pytest.approx((1 / 4 + 4 / 10) / 2)
    assert figures["s3"]["of_bound_s3"]["median"] == 0.5
    assert figures["s3"]["of_bound_s3_cpu"]["median"] == 0.5
    # Only what has workers has a start, and local files have no server beside them.
    assert "of_bound_with_start" not in figures["bound_s3"]
    assert "of_bound_s3" not in figures["local"]
    told = {"answer": "", "frames": ["a"], "n_images": 8, "batch_size": 4, "n_workers": 2}
    lines = throughput.report_lines(figures | told | {"s3_mb_s": 75.0, "s3_server_cores": 0.1})
    (beside,) = (line for line in lines if "beside it" in line)
    assert beside.startswith("bound_s3    0.650")
    assert sum(line.startswith("s3 ") for line in lines) == 6


# -- what the bytes take at the least --------------------------------------------------------------


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Callable[[Pace], str]]:
    """A server of two objects, of 300,000 and 10 bytes."""
    (tmp_path / "long").write_bytes(bytes(300_000))
    (tmp_path / "short").write_bytes(b"0123456789")
    listeners = []

    def start(pace: Pace) -> str:
        listener, port = serve(tmp_path, pace)
        listeners.append(listener)
        return f"http://127.0.0.1:{port}"

    yield start
    for listener in listeners:
        listener.close()


def test_bare_sockets_read_the_beginnings_of_objects(served: Callable[[Pace], str]) -> None:
    objects = Objects(served(Pace(1e9)), ("/b/long", "/b/short"), 200_000)
    reader = BareReader(objects, 2)
    try:
        # More than there are connections, and each object again.
        come = [reader.start(number) for number in range(7)]
        assert [each.result() for each in come] == [200_000, 10] * 3 + [200_000]
    finally:
        reader.close()


def test_bare_sockets_say_what_did_not_come(served: Callable[[Pace], str]) -> None:
    reader = BareReader(Objects(served(Pace(1e9)), ("/b/none", "/b/long"), 100), 1)
    try:
        with pytest.raises(OSError, match=r"/b/none: .* got 'HTTP/1.1 404 Not Found'"):
            reader.start(0).result()
    finally:
        reader.close()


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 206 Partial", b"HTTP/1.1 206 Partial Content\r\ncontent-length: 9\r\n\r\nabc"],
)
def test_bare_sockets_see_a_connection_that_ends(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        reader = BareReader(Objects(url, ("/b/k",), 9), 1)
        begun = reader.start(0)
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(answer)
        with pytest.raises(OSError, match="the connection ended before the answer did"):
            begun.result()
        reader.close()


def test_an_object_is_read_for_each_image_that_is_replayed(
    served: Callable[[Pace], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    replayed: list[int] = []
    calls = [SimpleNamespace(replay=lambda n=n: replayed.append(n)) for n in range(2)]
    monkeypatch.setattr(bound, "_calls", calls)
    monkeypatch.setattr(bound, "_readers", {})
    read: list[int] = []
    start = BareReader.start

    def counted(self: BareReader, number: int) -> Future[int]:
        read.append(number)
        return start(self, number)

    monkeypatch.setattr(BareReader, "start", counted)
    objects = Objects(served(Pace(1e9)), ("/b/long", "/b/short"), 1000)
    assert bound._replay((range(4, 7), objects)) > 0
    assert replayed == [0, 1, 0]
    assert read == [4, 5, 6]
    bound._replay((range(2), None))
    assert replayed == [0, 1, 0, 0, 1]
    assert read == [4, 5, 6]
    # The connections stay for the next images.
    (reader,) = bound._readers.values()
    reader.close()


def test_images_are_not_done_before_their_objects_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bound, "_calls", [SimpleNamespace(replay=lambda: None)])
    broken: Future[int] = Future()
    broken.set_exception(OSError("the connection ended"))
    monkeypatch.setattr(bound, "_reader", lambda _: SimpleNamespace(start=lambda _: broken))
    with pytest.raises(OSError, match="the connection ended"):
        bound._replay((range(1), Objects("http://127.0.0.1:1", ("/b/k",), 9)))


def write_part(out: Path, positions: dict[str, np.ndarray]) -> None:
    (out / "parts").mkdir(exist_ok=True)
    columns = {
        "rootname": [name for name, rows in positions.items() for _ in rows],
        "x_barycentre": np.concatenate([rows[:, 0] for rows in positions.values()]),
        "y_barycentre": np.concatenate([rows[:, 1] for rows in positions.values()]),
    }
    pq.write_table(pa.table(columns), out / "parts" / "one.parquet")


def test_other_sources_are_seen(tmp_path: Path) -> None:
    first, second = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[5.0, 6.0]])
    images = {rootname(0): first, rootname(1): second, rootname(2): first}
    write_part(tmp_path, images)
    throughput.check_sources(tmp_path, [first, second], 3)
    write_part(tmp_path, images | {rootname(2): first * (1 + 1e-15)})
    with pytest.raises(RuntimeError, match=rootname(2)):
        throughput.check_sources(tmp_path, [first, second], 3)
    write_part(tmp_path, {rootname(0): first, rootname(2): first})
    with pytest.raises(RuntimeError, match=rootname(1)):
        throughput.check_sources(tmp_path, [first, second], 3)


def test_frames_are_laid_out_as_in_the_archive(tmp_path: Path) -> None:
    frames = [tmp_path / "a.fits", tmp_path / "b.fits"]
    for frame in frames:
        frame.write_text(frame.name)
    links = lay_out(frames, tmp_path / "archive", 3)
    assert [link.read_text() for link in links] == ["a.fits", "b.fits", "a.fits"]
    assert manifest_of(3, str(tmp_path / "archive")).urls == [str(link) for link in links]


def test_the_short_form_runs_and_its_figures_are_whole(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    throughput.add_arguments(parser)
    arguments = parser.parse_args(["--workers", "2"])
    arguments.short = True
    figures = throughput.run(arguments)
    said = capsys.readouterr().out
    assert said.startswith("answer    the sources of each run are those of SEP called directly")
    for name in ("bound", "local", "s3"):
        assert figures[name]["images_s"]["n"] == 2
        assert figures[name]["images_s"]["median"] > 0
        assert f"\n{name} " in said
    for name in ("local", "s3"):
        # More than SEP's calls is done, so it takes more of the CPU.
        assert 0 < figures[name]["of_bound_cpu"]["median"] < 1.1
        with_start, without = figures[name]["of_bound_with_start"], figures[name]["of_bound"]
        assert with_start["median"] < without["median"]
    assert 0 < figures["s3_server_cores"] < 1
    assert figures["batch_size"] * figures["n_workers"] == figures["n_images"] == 8
