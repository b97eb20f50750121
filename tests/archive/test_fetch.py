"""Files brought to a folder: whole or not at all, over connections that break."""

from __future__ import annotations

import hashlib
import json
import random
import threading

import pytest

from hstmap.archive.fetch import FetchOptions, fetch
from hstmap.archive.fetch_plan import GIB, plan_fetch
from hstmap.archive.manifest import Manifest
from hstmap.archive.partfile import DamagedCopyError, PartFile, Version
from hstmap.errors import UsageError
from hstmap.storage import open_store

PIECE = 1000


def key_of(name):
    return f"hst/public/{name[:4]}/{name}/{name}_flt.fits"


def manifest_of(sizes, store="s3://bucket", **columns):
    rows = [
        {"rootname": name, "key": key_of(name)} | {c: v[n] for c, v in columns.items()}
        for n, name in enumerate(sizes)
    ]
    return Manifest.from_rows(rows, store=store)


@pytest.fixture
def files(objects):
    """Forty files of a few pieces each, some of them exact multiples of a piece, one empty."""
    draw = random.Random(7)
    sizes = [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE]
    sizes += [draw.randrange(1, 5 * PIECE) for _ in range(34)]
    contents = {f"ia{n:06d}q": draw.randbytes(size) for n, size in enumerate(sizes)}
    objects.objects |= {key_of(name): data for name, data in contents.items()}
    return contents


@pytest.fixture
def options(objects, patience):
    return FetchOptions(
        n_connections=6, piece_nbytes=PIECE, patience=patience, storage=objects.options()
    )


def check_whole(folder, files):
    """Every file is what it should be, and nothing else is there."""
    names = {f"{name}_flt.fits" for name in files}
    assert {path.name for path in folder.iterdir()} == names
    for name, data in files.items():
        assert (folder / f"{name}_flt.fits").read_bytes() == data


class TestFetch:
    def test_every_file_comes_whole(self, objects, files, options, tmp_path):
        report = fetch(plan_fetch(manifest_of(files), tmp_path / "to"), options)
        check_whole(tmp_path / "to", files)
        assert report.counts == {"fetched": 40}
        assert report.nbytes == sum(map(len, files.values()))

    def test_a_request_for_each_piece_and_none_besides(self, objects, files, options, tmp_path):
        plan = plan_fetch(manifest_of(files), tmp_path, objects.options(), ask_sizes=False)
        report = fetch(plan, options)
        n_pieces = sum(max(1, -(-len(data) // PIECE)) for data in files.values())
        # No range lies within an empty file: it takes a HEAD to see that it is there.
        assert report.requests.n_get == n_pieces
        assert len(objects.asked) == n_pieces + 1

    def test_one_connection_in_ten_may_break(self, objects, files, options, tmp_path):
        objects.drop_every = 10
        told = []
        options = FetchOptions(**vars(options) | {"on_trouble": told.append})
        report = fetch(plan_fetch(manifest_of(files), tmp_path), options)
        check_whole(tmp_path, files)
        assert report.counts == {"fetched": 40}
        assert objects.n_dropped >= 8
        assert told

    def test_a_file_is_gone_on_with_where_its_connection_broke(self, objects, options, tmp_path):
        data = random.Random(1).randbytes(10 * PIECE)
        objects.objects[key_of("ia000000q")] = data
        objects.drop_every = 4
        fetch(plan_fetch(manifest_of(["ia000000q"]), tmp_path), options)
        check_whole(tmp_path, {"ia000000q": data})
        starts = [start for _, start in objects.asked]
        assert starts == sorted(starts)
        assert len(starts) == 10 + objects.n_dropped
        assert objects.n_dropped >= 2

    def test_what_came_of_a_large_answer_before_it_broke_is_kept(self, objects, patience, tmp_path):
        data = random.Random(1).randbytes(5_000_000)
        objects.objects[key_of("ia000000q")] = data
        objects.drop_every = 1
        objects.on_request = lambda key, start: setattr(objects, "drop_every", int(not start))
        options = FetchOptions(patience=patience, storage=objects.options())
        fetch(plan_fetch(manifest_of(["ia000000q"]), tmp_path), options)
        check_whole(tmp_path, {"ia000000q": data})
        (_, first), (_, second) = objects.asked
        assert first == 0
        assert 1_000_000 < second <= 2_500_000

    def test_nothing_has_its_final_name_before_it_is_whole(self, objects, files, options, tmp_path):
        seen = []

        def look(key, start):
            seen.extend((path.name, path.stat().st_size) for path in tmp_path.glob("*.fits"))

        objects.on_request = look
        objects.drop_every = 7
        fetch(plan_fetch(manifest_of(files), tmp_path), options)
        sizes = {f"{name}_flt.fits": len(data) for name, data in files.items()}
        assert seen
        assert all(size == sizes[name] for name, size in seen)

    def test_a_server_that_never_answers_whole_is_given_up(
        self, objects, files, options, tmp_path, naps
    ):
        objects.drop_every = 1
        name = "ia000005q"
        report = fetch(plan_fetch(manifest_of([name]), tmp_path), options)
        outcome = report.outcomes[0]
        assert outcome.status == "failed"
        assert outcome.message
        assert not list(tmp_path.glob("*.fits"))
        assert len(naps) == options.patience.n_attempts - 1

    def test_missing_and_forbidden_files_do_not_stop_the_others(
        self, objects, files, options, tmp_path
    ):
        objects.forbidden.add(key_of("ia000007q"))
        manifest = manifest_of([*files, "ia999999q"])
        report = fetch(plan_fetch(manifest, tmp_path), options)
        assert report.counts == {"fetched": 39, "missing": 1, "forbidden": 1}
        del files["ia000007q"]
        check_whole(tmp_path, files)

    def test_progress_ends_with_everything(self, objects, files, options, tmp_path):
        seen = []
        options = FetchOptions(**vars(options) | {"on_progress": seen.append})
        fetch(plan_fetch(manifest_of(files), tmp_path), options)
        last = max(seen, key=lambda progress: (progress.n_done, progress.nbytes))
        assert (last.n_done, last.n_files) == (40, 40)
        assert last.nbytes == sum(map(len, files.values()))

    def test_a_local_archive_is_a_source_too(self, tmp_path, options):
        store = open_store(str(tmp_path / "from"))
        store.put(key_of("ia000000q"), b"some bytes")
        manifest = manifest_of(["ia000000q"], store=store.url)
        fetch(plan_fetch(manifest, tmp_path / "to"), options)
        check_whole(tmp_path / "to", {"ia000000q": b"some bytes"})

    def test_moto_s3(self, s3_bucket, tmp_path, patience):
        """Against an independent S3: signed requests, its own ETags and ranges."""
        data = {f"ia00000{n}q": random.Random(n).randbytes(2500) for n in range(5)}
        store = open_store(s3_bucket)
        for name, content in data.items():
            store.put(key_of(name), content)
        plan = plan_fetch(manifest_of(data, store=s3_bucket), tmp_path, ask_sizes=True)
        assert plan.nbytes == 5 * 2500
        fetch(plan, FetchOptions(piece_nbytes=PIECE, patience=patience))
        check_whole(tmp_path, data)


class TestResume:
    NAME = "ia000000q"

    def interrupted(self, objects, options, folder, n_pieces):
        """Fetch until so many pieces have come, and then break every connection."""
        data = random.Random(3).randbytes(6 * PIECE + 17)
        objects.objects[key_of(self.NAME)] = data

        def then_break(key, start):
            if start >= n_pieces * PIECE:
                objects.drop_every = 1

        objects.on_request = then_break
        report = fetch(plan_fetch(manifest_of([self.NAME]), folder), options)
        assert report.outcomes[0].status == "failed"
        objects.on_request = lambda key, start: None
        objects.drop_every = 0
        objects.asked.clear()
        return data

    def test_it_goes_on_where_it_broke(self, objects, options, tmp_path):
        data = self.interrupted(objects, options, tmp_path, 3)
        fetch(plan_fetch(manifest_of([self.NAME]), tmp_path), options)
        check_whole(tmp_path, {self.NAME: data})
        assert min(start for _, start in objects.asked) >= 3 * PIECE
        assert len(objects.asked) <= 4

    def test_it_does_not_go_on_with_another_version(self, objects, options, tmp_path):
        self.interrupted(objects, options, tmp_path, 3)
        new = random.Random(4).randbytes(6 * PIECE + 17)
        objects.objects[key_of(self.NAME)] = new
        report = fetch(plan_fetch(manifest_of([self.NAME]), tmp_path), options)
        assert report.counts == {"fetched": 1}
        check_whole(tmp_path, {self.NAME: new})

    def test_it_does_not_go_on_with_another_object(self, objects, options, tmp_path):
        self.interrupted(objects, options, tmp_path, 3)
        other = b"b" * 7000
        objects.objects[f"elsewhere/{self.NAME}_flt.fits"] = other
        manifest = Manifest.from_rows(
            [{"rootname": self.NAME, "key": f"elsewhere/{self.NAME}_flt.fits"}],
            store="s3://bucket",
        )
        fetch(plan_fetch(manifest, tmp_path), options)
        check_whole(tmp_path, {self.NAME: other})

    @pytest.mark.parametrize("note", ["", "{", '{"url": 1}', "[]"])
    def test_a_spoilt_note_means_from_the_start(self, objects, options, tmp_path, note):
        data = self.interrupted(objects, options, tmp_path, 3)
        (tmp_path / f"{self.NAME}_flt.fits.part.json").write_text(note)
        fetch(plan_fetch(manifest_of([self.NAME]), tmp_path), options)
        check_whole(tmp_path, {self.NAME: data})

    def test_bytes_that_were_spoilt_on_disk_are_found_out(self, objects, options, tmp_path):
        data = self.interrupted(objects, options, tmp_path, 3)
        part = tmp_path / f"{self.NAME}_flt.fits.part"
        part.write_bytes(b"x" + part.read_bytes()[1:])
        fetch(plan_fetch(manifest_of([self.NAME]), tmp_path), options)
        check_whole(tmp_path, {self.NAME: data})

    def test_what_is_there_is_not_fetched_again(self, objects, files, options, tmp_path):
        manifest = manifest_of(files)
        fetch(plan_fetch(manifest, tmp_path), options)
        objects.asked.clear()
        plan = plan_fetch(manifest, tmp_path)
        assert (plan.files, plan.n_there) == ((), 40)
        fetch(plan, options)
        assert objects.asked == []

    def test_what_has_another_size_than_the_manifest_says_is_fetched_again(
        self, objects, files, options, tmp_path
    ):
        manifest = manifest_of(files, nbytes=[len(data) for data in files.values()])
        fetch(plan_fetch(manifest, tmp_path), options)
        (tmp_path / "ia000009q_flt.fits").write_bytes(b"an older version")
        plan = plan_fetch(manifest, tmp_path)
        assert [file.path.name for file in plan.files] == ["ia000009q_flt.fits"]
        fetch(plan, options)
        check_whole(tmp_path, files)

    def test_an_object_that_changes_on_its_way_comes_in_its_new_version(
        self, objects, options, tmp_path
    ):
        key = key_of(self.NAME)
        objects.objects[key] = b"a" * (4 * PIECE)

        def change(_, start):
            if start == 2 * PIECE:
                objects.objects[key] = b"b" * (4 * PIECE)

        objects.on_request = change
        report = fetch(plan_fetch(manifest_of([self.NAME]), tmp_path), options)
        assert report.counts == {"fetched": 1}
        check_whole(tmp_path, {self.NAME: b"b" * (4 * PIECE)})

    def test_an_interrupt_leaves_what_can_be_gone_on_with(self, objects, options, tmp_path):
        """Ctrl-C in the middle: threads end, no final name, and the next fetch goes on."""
        data = random.Random(5).randbytes(5 * PIECE)
        objects.objects[key_of(self.NAME)] = data
        reached = threading.Event()

        def stop(progress):
            if progress.nbytes == 2 * PIECE:
                reached.set()
                raise KeyboardInterrupt

        stopping = FetchOptions(**vars(options) | {"on_progress": stop})
        with pytest.raises(KeyboardInterrupt):
            fetch(plan_fetch(manifest_of([self.NAME]), tmp_path), stopping)
        assert reached.is_set()
        assert not (tmp_path / f"{self.NAME}_flt.fits").exists()
        objects.asked.clear()
        fetch(plan_fetch(manifest_of([self.NAME]), tmp_path), options)
        check_whole(tmp_path, {self.NAME: data})
        assert len(objects.asked) == 3


class TestVerification:
    NAME = "ia000000q"

    @pytest.mark.parametrize(("nbytes", "md5"), [(3500, "pieced"), (70, "always")])
    def test_bytes_that_are_not_those_of_the_md5_never_get_the_name(
        self, objects, options, tmp_path, nbytes, md5
    ):
        objects.objects[key_of(self.NAME)] = b"damaged" * (nbytes // 7)
        objects.etags[key_of(self.NAME)] = hashlib.md5(b"whole").hexdigest()
        options = FetchOptions(**vars(options) | {"md5": md5})
        report = fetch(plan_fetch(manifest_of([self.NAME]), tmp_path), options)
        assert report.outcomes[0].status == "failed"
        assert "MD5" in report.outcomes[0].message
        assert list(tmp_path.iterdir()) == []

    def test_an_answer_that_came_whole_is_not_read_again_by_default(
        self, objects, options, tmp_path
    ):
        objects.objects[key_of(self.NAME)] = b"whatever" * 20
        objects.etags[key_of(self.NAME)] = hashlib.md5(b"another").hexdigest()
        report = fetch(plan_fetch(manifest_of([self.NAME]), tmp_path), options)
        assert report.counts == {"fetched": 1}

    def test_another_version_than_the_manifest_s_is_told(self, objects, options, tmp_path):
        objects.objects[key_of(self.NAME)] = b"new"
        manifest = manifest_of([self.NAME], etag=["0" * 32])
        outcome = fetch(plan_fetch(manifest, tmp_path), options).outcomes[0]
        assert outcome.status == "fetched"
        assert "another version" in outcome.message

    def test_an_etag_of_an_upload_in_parts_is_no_md5(self, objects, options, tmp_path):
        objects.objects[key_of(self.NAME)] = b"bytes" * 500
        objects.etags[key_of(self.NAME)] = hashlib.md5(b"whole").hexdigest() + "-2"
        report = fetch(plan_fetch(manifest_of([self.NAME]), tmp_path), options)
        assert report.counts == {"fetched": 1}

    def test_a_copy_of_another_size_is_refused(self, tmp_path):
        part = PartFile(tmp_path / "a.fits")
        part.start(Version("s3://bucket/a.fits", 10, None))
        with part.stretch() as write:
            write(b"12345")
        with pytest.raises(DamagedCopyError, match="5 bytes came, 10 were announced"):
            part.finish(check_md5=False)
        assert list(tmp_path.iterdir()) == []

    def test_what_is_written_beside_a_part_says_of_what_it_is(self, tmp_path):
        part = PartFile(tmp_path / "a.fits")
        part.start(Version("s3://bucket/a.fits", 10, "e"))
        note = json.loads((tmp_path / "a.fits.part.json").read_text())
        assert note == {"url": "s3://bucket/a.fits", "nbytes": 10, "etag": "e"}


class TestPlan:
    def test_files_bytes_requests_and_price(self, files, tmp_path):
        sizes = [len(data) for data in files.values()]
        plan = plan_fetch(manifest_of(files, nbytes=sizes), tmp_path)
        assert len(plan.files) == 40
        assert plan.nbytes == sum(sizes)
        assert plan.n_requests(PIECE) == sum(max(1, -(-size // PIECE)) for size in sizes)
        assert plan.egress_usd(0.09) == pytest.approx(sum(sizes) / GIB * 0.09)

    def test_the_announcements_270_images(self, tmp_path):
        """270 drizzled images of 13 MB are 3.27 GiB: $0.29 at the list price of $0.09 a GiB."""
        names = [f"ia{n:06d}q" for n in range(270)]
        plan = plan_fetch(manifest_of(names, nbytes=[13_000_000] * 270), tmp_path)
        assert plan.n_requests(8 * 1024**2) == 540
        assert plan.egress_usd(0.09) == pytest.approx(0.2942, abs=1e-4)

    def test_unknown_sizes_are_said_to_be_unknown(self, files, tmp_path):
        plan = plan_fetch(manifest_of(files), tmp_path)
        assert plan.nbytes is None
        assert plan.n_requests(PIECE) is None
        assert plan.egress_usd(0.09) is None

    def test_sizes_can_be_asked_for_without_a_request_a_file(self, tmp_path):
        store = open_store(f"memory://{tmp_path.name}")
        names = [f"ia{n:06d}q" for n in range(30)]
        for name in names:
            store.put(key_of(name), name.encode() * 5)
        manifest = manifest_of(names, store=store.url)
        plan = plan_fetch(manifest, tmp_path / "to", ask_sizes=True)
        assert plan.nbytes == 30 * 45
        assert plan.n_listed == 1

    def test_rows_that_are_not_for_use_are_left_and_counted(self, files, tmp_path):
        use = ["grism" if n < 4 else "" for n in range(40)]
        manifest = manifest_of(files, use=use)
        assert len(plan_fetch(manifest, tmp_path).files) == 36
        assert plan_fetch(manifest, tmp_path).n_unused == 4
        assert len(plan_fetch(manifest, tmp_path, unused_too=True).files) == 40

    def test_companions_come_along(self, tmp_path):
        rows = [{"rootname": "a", "key": "a_sci.fits", "companion_key": "a_wht.fits"}]
        plan = plan_fetch(Manifest.from_rows(rows, store="s3://bucket"), tmp_path)
        assert {file.path.name for file in plan.files} == {"a_sci.fits", "a_wht.fits"}

    def test_two_files_of_one_name_are_refused(self, tmp_path):
        rows = [
            {"rootname": "a", "key": "s3://one/x_flt.fits"},
            {"rootname": "b", "key": "s3://two/x_flt.fits"},
        ]
        with pytest.raises(UsageError, match="would both be"):
            plan_fetch(Manifest.from_rows(rows), tmp_path)

    def test_more_than_the_disk_holds_is_refused_at_once(self, objects, options, tmp_path):
        manifest = manifest_of(["ia000000q"], nbytes=[10**18])
        with pytest.raises(UsageError, match="GiB free"):
            fetch(plan_fetch(manifest, tmp_path), options)
        assert objects.asked == []
