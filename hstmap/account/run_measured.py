"""What a run took, as a profile: its ledger and its parts say what each image and call did."""

from __future__ import annotations

import os
import platform
import socket
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from hstmap.account.run_assumptions import VCPU_MB, cpu_speed
from hstmap.account.run_calls import PLACE_FACT, LambdaPlace
from hstmap.account.run_profile import ImageSample, Profile, load_profile
from hstmap.bag.ledger import attempt_of, read_ledger
from hstmap.bag.task import Attempt
from hstmap.errors import UsageError
from hstmap.parts import placed_images
from hstmap.storage import ObjectInfo, Store
from hstmap.summary_files import COVERAGE_FILE, IMAGES_FILE, SOURCES_FILE, SOURCES_PREFIX
from hstmap.wfc3.schema import TIMED_STEPS

__all__ = ["profile_of_run", "warm_environments"]

#: Lambda keeps environments that are idle for some minutes; it does not say how many (assumed).
_KEPT_WARM_S: Final = 300.0
_PARTS, _CATALOGS = "parts/", "catalogs/"
_SUMMARY: Final = (SOURCES_FILE, SOURCES_PREFIX, IMAGES_FILE, COVERAGE_FILE)
_FAILED: Final = frozenset({"error", "lost", "timeout"})


@dataclass
class _Calls:
    """What a ledger tells of calls: of those on Lambda only, if there are any."""

    done: list[_Done] = field(default_factory=list)
    n_failures: int = 0


@dataclass(frozen=True)
class _Done:
    """A batch that ended well, and where it ran."""

    attempt: Attempt
    place: LambdaPlace | None
    host: str
    began_s: float

    @property
    def said(self) -> Mapping[str, Any]:
        """What its worker said of it."""
        said: Mapping[str, Any] = self.attempt.value
        return said

    @property
    def cpu_speed(self) -> float:
        """How fast its worker computed, as a share of a whole vCPU's speed."""
        return 1.0 if self.place is None else cpu_speed(self.place.memory_mb)

    @property
    def waited_s(self) -> float:
        """What it waited while its CPU did nothing either, s.

        The rest of what it waited was spent on receiving, and takes longer with less of a vCPU.
        """
        waited_s = float(self.said.get("waited_s", 0.0))
        cpu_s = float(self.said.get("cpu_s", 0.0))  # not told by older versions
        if self.place is None or not cpu_s:
            return waited_s
        share = min(1.0, self.place.memory_mb / VCPU_MB)
        return min(waited_s, max(0.0, float(self.said["elapsed_s"]) - cpu_s / share))


def profile_of_run(store: Store, base: Profile | None = None) -> Profile:
    """Make a profile of what a run took.

    Parameters
    ----------
    store : Store
        The run's.
    base : Profile, optional
        Has what runs do not tell: the reduce, starts on this machine, catalogues where none were
        written. By default the one that comes with hstmap.

    Returns
    -------
    Profile
        Of the batches that ran on Lambda, if any did; times are those of a whole vCPU then.

    Raises
    ------
    UsageError
        If the run has done nothing that could be measured.
    """
    base = base or load_profile()
    calls = _calls(store)
    batches = calls.done
    of_part = {item.said["part"]: item for item in batches}
    everything = [placed.row for placed in placed_images(store).values()]
    rows = [row for row in everything if row["part"] in of_part]
    measured = [row for row in rows if row["outcome"] in ("ok", "empty")]
    if not measured:
        raise UsageError(
            f"{store.url} has {len(everything)} images in parts and a ledger of {len(batches)} "
            "finished batches, which have none in common that was measured; a profile needs "
            "that: name a run that `map` made"
        )
    sizes = _sizes(store)
    n_catalogs = sum(bool(row["catalog"]) for row in measured)
    n_images = sum(sum(item.said["outcomes"].values()) for item in batches)
    on_lambda = batches[-1].place is not None
    return Profile(
        name=store.url,
        origin=f"{len(measured):,} images that the run at {store.url} measured",
        machine=_machine(batches[-1]),
        date=datetime.fromtimestamp(batches[-1].began_s, UTC).isoformat(timespec="seconds"),
        images=tuple(_sample(row, of_part[row["part"]].cpu_speed) for row in measured),
        n_get_image=sum(item.said["requests"]["n_get"] for item in batches) / n_images,
        overhead_s=tuple(_overheads(batches, rows)),
        init_s=_starts(batches) if on_lambda and _starts(batches) else base.init_s,
        part_nbytes_image=sizes.parts / len(everything),
        catalog_nbytes_image=(
            sizes.catalogs / n_catalogs if n_catalogs else base.catalog_nbytes_image
        ),
        reduce_s_image=base.reduce_s_image,
        summary_nbytes_image=(
            sizes.summary or sizes.parts * base.merged_nbytes_image / base.part_nbytes_image
        ) / len(everything),
        wait_s=tuple(round(item.waited_s, 5) for item in batches) if on_lambda else (),
        call_s=_beyond_s(batches) if on_lambda else 0.0,
        send_s=_until_begun_s(batches)[0] if on_lambda else 0.0,
        boot_s=_until_begun_s(batches)[1] if on_lambda else 0.0,
        peak_memory_nbytes=max(
            (item.attempt.peak_memory_nbytes or 0 for item in batches), default=0
        ) or base.peak_memory_nbytes,
        on_lambda=on_lambda,
        n_attempts=len(batches) + calls.n_failures if on_lambda else 0,
        n_failures=calls.n_failures if on_lambda else 0,
    )  # fmt: skip


def warm_environments(store: Store, place: LambdaPlace, now_s: float) -> int:
    """Count the environments of a function that a run has left warm.

    Parameters
    ----------
    store : Store
        The run's.
    place : LambdaPlace
        The function; environments go when its memory is changed.
    now_s : float
        Unix time, s.

    Returns
    -------
    int
        As many as worked at the same time or were started, if that is not long ago.
    """
    recent = [
        item.attempt
        for item in _calls(store).done
        if item.place == place and item.attempt.ended_s > now_s - _KEPT_WARM_S
    ]
    changes = [
        change
        for attempt in recent
        if attempt.started_s is not None
        for change in ((attempt.started_s, 1), (attempt.ended_s, -1))
    ]
    most = n = 0
    for _, change in sorted(changes):
        n += change
        most = max(most, n)
    n_started = sum(attempt.worker is not None and attempt.worker.cold for attempt in recent)
    return max(most, n_started)


def _calls(store: Store) -> _Calls:
    """Read which batches ended well, and how many calls did not."""
    found: list[_Done] = []
    n_failures = 0
    place, host, began_s = None, "", 0.0
    for entry in read_ledger(store):
        if entry["event"] == "ledger_opened":
            fact = entry.get("about", {}).get(PLACE_FACT)
            place = None if fact is None else LambdaPlace(**fact)
            host, began_s = entry["host"], entry["time_s"]
        elif entry["event"] == "attempt_ended":
            attempt = attempt_of(entry)
            said = attempt.value
            if attempt.status == "ok" and isinstance(said, dict) and "part" in said:
                found.append(_Done(attempt, place, host, began_s))
            elif attempt.status in _FAILED and attempt.started_s is not None:
                n_failures += place is not None
    return _Calls([item for item in found if item.place is not None] or found, n_failures)


def _machine(batch: _Done) -> str:
    """Name what a batch ran on."""
    if batch.place is not None:
        place = batch.place
        return f"Lambda, {place.architecture}, {place.memory_mb:,} MB, {place.region}"
    if batch.host == socket.gethostname():
        return f"{batch.host}: {platform.machine()}, {os.cpu_count()} CPUs"
    return batch.host


def _sample(row: Mapping[str, Any], speed: float) -> ImageSample:
    compute_s = sum(row[f"{step}_s"] for step in TIMED_STEPS if step != "write")
    return ImageSample(
        round(compute_s * speed, 5), round(row["write_s"] * speed, 5), row["nbytes_read"]
    )


def _overheads(batches: Sequence[_Done], rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """Take from the time of each batch that of its images, and what it waited idly."""
    images_s: dict[str, float] = {}
    for row in rows:
        took = sum(row[f"{step}_s"] for step in TIMED_STEPS)
        images_s[row["part"]] = images_s.get(row["part"], 0.0) + took
    overheads = []
    for item in batches:
        beyond = item.said["elapsed_s"] - images_s.get(item.said["part"], 0.0) - item.waited_s
        overheads.append(round(max(0.0, beyond) * item.cpu_speed, 5))
    return overheads


def _starts(batches: Sequence[_Done]) -> tuple[float, ...]:
    """Say what INITs took, as their processes told."""
    told = [item.attempt for item in batches if item.attempt.worker and item.attempt.worker.cold]
    return tuple(round(item.init_s, 5) for item in told if item.init_s is not None)


def _beyond_s(batches: Sequence[_Done]) -> float:
    """Say what an invocation typically takes beyond its batch."""
    beyond = [
        item.attempt.handler_s - item.said["elapsed_s"]
        for item in batches
        if item.attempt.handler_s is not None
    ]
    return round(max(0.0, statistics.median(beyond)), 5) if beyond else 0.0


def _until_begun_s(batches: Sequence[_Done]) -> tuple[float, float]:
    """Say what it takes until a warm worker begins, and how much longer until a cold one's INIT."""
    warm: list[float] = []
    cold: list[float] = []
    for attempt in (item.attempt for item in batches):
        if attempt.started_s is None:
            continue
        waited_s = attempt.started_s - attempt.submitted_s
        if attempt.worker is not None and attempt.worker.cold:
            cold.append(waited_s - (attempt.init_s or 0.0))
        else:
            warm.append(waited_s)
    # Clocks of client and workers may differ.
    send_s = max(0.0, statistics.median(warm or cold)) if warm or cold else 0.0
    boot_s = max(0.0, statistics.median(cold) - send_s) if cold else 0.0
    return round(send_s, 5), round(boot_s, 5)


@dataclass
class _Sizes:
    """Bytes of what a run has stored; of the summary 0 if it does not hold all parts."""

    parts: int = 0
    catalogs: int = 0
    summary: int = 0


def _sizes(store: Store) -> _Sizes:
    sizes = _Sizes()
    parts, summary = list[ObjectInfo](), list[ObjectInfo]()
    for info in store.list():
        if info.key.startswith(_PARTS):
            parts.append(info)
        elif info.key.startswith(_CATALOGS):
            sizes.catalogs += info.nbytes
        elif info.key.startswith(_SUMMARY):
            summary.append(info)
    sizes.parts = sum(info.nbytes for info in parts)
    merged = [info.modified for info in summary if info.key == IMAGES_FILE]
    if merged and all(info.modified <= merged[0] for info in parts):
        sizes.summary = sum(info.nbytes for info in summary)
    return sizes
