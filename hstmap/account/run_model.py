"""A run on Lambda, simulated event by event: how long it would take and what it would use.

What images take is drawn from a measured `~hstmap.account.run_profile.Profile`; what was not
measured is in `~hstmap.account.run_assumptions.Assumptions`, with where it comes from. Nothing here
ran on Lambda.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, Final

import numpy as np

from hstmap.account.run_assumptions import Assumptions, RunShape
from hstmap.account.run_profile import Profile
from hstmap.account.run_reduce import ReduceResult, model_reduce
from hstmap.account.run_usage import count_usage
from hstmap.aws.usage import Call, Purpose, Usage

__all__ = ["ModelResult", "simulate_run"]

_N_AHEAD: Final = 3  # as hstmap.worker fetches ahead


@dataclass(frozen=True)
class ModelResult:
    """How a simulated run went.

    Attributes
    ----------
    map_s, reduce_s : float
        Until the last image was done; and from then until the summary is there, s.
    n_times_done : tuple of int
        How often each image's result was kept: 1, or 0 where its task failed for good.
    n_cold, n_throttled, n_reduce_calls : int
        Cold starts; GETs that waited for S3; calls of the reduce.
    usage : Usage
    """

    map_s: float
    reduce_s: float
    n_times_done: tuple[int, ...]
    n_cold: int
    n_throttled: int
    n_reduce_calls: int
    usage: Usage

    @property
    def total_s(self) -> float:
        """Map and reduce, s."""
        return self.map_s + self.reduce_s


@dataclass(eq=False)
class _Attempt:
    """One call while it runs."""

    task: int
    environment: int
    started_s: float
    init_s: float
    slowdown: float
    fails_at: int | None
    first_s: float
    link_free_s: float = 0.0
    put_s: float = 0.0
    fetched_s: list[float] = field(default_factory=list)
    done_s: list[float] = field(default_factory=list)
    ended_s: float | None = None


def simulate_run(
    shape: RunShape, profile: Profile, assumptions: Assumptions | None = None, seed: int = 0
) -> ModelResult:
    """Simulate a run.

    Parameters
    ----------
    shape : RunShape
    profile : Profile
        What images take is drawn from it, with replacement.
    assumptions : Assumptions, optional
    seed : int

    Returns
    -------
    ModelResult
    """
    return _Simulation(shape, profile, assumptions or Assumptions(), seed).run()


class _Simulation:
    """The state of a run, and its events in the order of time."""

    def __init__(
        self, shape: RunShape, profile: Profile, assumptions: Assumptions, seed: int
    ) -> None:
        self.shape, self.profile, self.assume = shape, profile, assumptions
        self.random = np.random.default_rng(seed)
        drawn = self.random.integers(0, len(profile.images), shape.n_images)
        self.cpu_ratio = assumptions.cpu_ratio / shape.cpu_speed
        compute = [
            (item.compute_s + (item.catalog_s if shape.catalogs != "none" else 0.0))
            * self.cpu_ratio
            for item in profile.images
        ]  # fmt: skip
        self.compute_s: list[float] = np.array(compute)[drawn].tolist()
        # Waits that were measured have in them what is assumed otherwise.
        assumed = 0.0 if profile.wait_s else 1.0
        self.first_byte_s = assumed * assumptions.first_byte_s
        self.s_a_byte = assumed / assumptions.bandwidth_nbytes_s
        transfer = [item.nbytes_read * self.s_a_byte for item in profile.images]
        self.transfer_s: list[float] = np.array(transfer)[drawn].tolist()
        starts = range(0, shape.n_images, shape.images_a_call)
        self.tasks = [range(i, min(i + shape.images_a_call, shape.n_images)) for i in starts]
        self.queue = deque(range(len(self.tasks)))
        self.n_attempts = [0] * len(self.tasks)
        self.task_done = [False] * len(self.tasks)
        self.n_times_done = [0] * shape.n_images
        self.events: list[tuple[float, int, Any, Any]] = []
        self.order = count()
        self.warm = set(range(shape.n_warm))
        self.idle: list[int] = []
        self.next_call_s = self.next_get_s = self.next_put_s = self.map_s = 0.0
        self.n_throttled = self.n_gets = self.n_puts = self.n_left = 0
        self.durations: list[float] = []
        self.calls: list[Call] = []
        self.running: set[_Attempt] = set()
        self.twins_left = math.ceil(assumptions.twin_fraction * len(self.tasks))
        self.patience_s: float | None = None

    def at(self, time_s: float, what: Any, subject: Any) -> None:
        """Let something happen later."""
        heapq.heappush(self.events, (time_s, next(self.order), what, subject))

    def run(self) -> ModelResult:
        """Let everything happen."""
        self.n_left = len(self.tasks)
        for environment in range(min(self.shape.n_workers, len(self.tasks))):
            ready_s = environment // self.assume.ramp_environments * self.assume.ramp_s
            self.at(ready_s, self.free, environment)
        # An attempt that another one overtook goes on to its end and is paid for.
        while self.events:
            time_s, _, what, subject = heapq.heappop(self.events)
            what(time_s, subject)
        n_cold = sum(call.init_ms > 0 for call in self.calls)
        n_done = max(1, sum(self.n_times_done))
        reduce = model_reduce(n_done, self.shape, self.profile, self.assume, self.random)
        return ModelResult(
            self.map_s, reduce.seconds, tuple(self.n_times_done), n_cold, self.n_throttled,
            len(reduce.calls), self.usage(n_done, reduce),
        )  # fmt: skip

    def free(self, now_s: float, environment: int) -> None:
        """Give an environment its next call."""
        while self.queue and self.task_done[self.queue[0]]:
            self.queue.popleft()
        if self.queue:
            self.start(now_s, environment, self.queue.popleft())
            return
        self.idle.append(environment)
        n_done = len(self.tasks) - self.n_left
        if self.patience_s is None and self.durations and n_done >= 0.75 * len(self.tasks):
            typical_s = float(np.quantile(self.durations, 0.75))
            self.patience_s = self.assume.twin_slowdown * typical_s
            for attempt in sorted(self.running, key=lambda item: item.environment):
                self.watch(attempt)

    def start(self, now_s: float, environment: int, task: int) -> None:
        """Send a call."""
        sent_s = max(now_s, self.next_call_s)
        self.next_call_s = sent_s + 1 / self.assume.calls_a_second
        init_s = 0.0
        is_cold = environment not in self.warm
        if is_cold:
            self.warm.add(environment)
            init_s = float(self.random.choice(self.profile.init_s)) * self.assume.init_ratio
        is_slow = self.random.random() < self.assume.straggler_share
        does_fail = self.random.random() < self.assume.failure_share
        n_images = len(self.tasks[task])
        started_s = sent_s + init_s + self.profile.send_s
        if is_cold:
            started_s += self.profile.boot_s
        wait_s = float(self.random.choice(self.profile.wait_s)) if self.profile.wait_s else 0.0
        attempt = _Attempt(
            task, environment, started_s, init_s,
            self.assume.straggler_slowdown if is_slow else 1.0,
            int(self.random.integers(0, n_images)) if does_fail else None,
            first_s=started_s + wait_s,
        )  # fmt: skip
        self.n_attempts[task] += 1
        self.running.add(attempt)
        attempt.link_free_s = attempt.first_s
        self.at(attempt.first_s, self.fetch, attempt)
        self.watch(attempt)

    def fetch(self, now_s: float, attempt: _Attempt) -> None:
        """Fetch an image, and foresee when it is measured and when the next GET goes out."""
        images, i = self.tasks[attempt.task], len(attempt.done_s)
        admitted_s = max(now_s, self.next_get_s)
        self.n_throttled += admitted_s > now_s
        self.next_get_s = admitted_s + self.profile.n_get_image / self.assume.get_rate
        self.n_gets += 1
        first_s = max(admitted_s + self.first_byte_s, attempt.link_free_s)
        fetched_s = first_s + self.transfer_s[images[i]] * attempt.slowdown
        attempt.link_free_s = fetched_s
        before_s = attempt.done_s[-1] if attempt.done_s else attempt.first_s
        done_s = max(before_s, fetched_s) + self.compute_s[images[i]] * attempt.slowdown
        attempt.fetched_s.append(fetched_s)
        attempt.done_s.append(done_s)
        if attempt.fails_at == i:
            self.at(done_s, self.fail, attempt)
            return
        if self.shape.catalogs == "image":
            self.at(done_s, self.put_catalog, attempt)
        if i + 1 == len(images):
            self.at(done_s, self.write, attempt)
        else:
            # The worker asks for the next image when it has done the third last, and fetches two
            # at a time.
            next_s = attempt.first_s if i < _N_AHEAD else attempt.done_s[i - _N_AHEAD]
            if i + 1 >= _N_AHEAD:
                next_s = max(next_s, attempt.fetched_s[i + 1 - _N_AHEAD])
            self.at(next_s, self.fetch, attempt)

    def put_catalog(self, now_s: float, attempt: _Attempt) -> None:
        """Let the catalogue of an image go out, after that of the image before."""
        attempt.put_s = max(self.admit_put(now_s), attempt.put_s) + self.first_byte_s

    def admit_put(self, now_s: float) -> float:
        """Say when S3 takes one more object."""
        self.n_puts += 1
        admitted_s = max(now_s, self.next_put_s)
        self.next_put_s = admitted_s + 1 / self.assume.put_rate
        return admitted_s

    def write(self, now_s: float, attempt: _Attempt) -> None:
        """Write the catalogues, if they are one file, and make the part."""
        n_images = len(self.tasks[attempt.task])
        if self.shape.catalogs == "batch":
            self.put_catalog(now_s, attempt)
        make_s = n_images * self.profile.overhead_s_image * self.cpu_ratio + self.profile.call_s
        self.at(now_s + make_s, self.write_part, attempt)

    def write_part(self, now_s: float, attempt: _Attempt) -> None:
        """Write the part, when the catalogues are there."""
        nbytes = len(self.tasks[attempt.task]) * self.profile.part_nbytes_image
        put_s = self.first_byte_s + nbytes * self.s_a_byte
        self.at(max(self.admit_put(now_s), attempt.put_s) + put_s, self.end, attempt)

    def end(self, now_s: float, attempt: _Attempt) -> None:
        """Keep the result, unless another attempt was faster."""
        is_first = not self.task_done[attempt.task]
        self.finish(now_s, attempt, "work" if is_first else "twin")
        if is_first:
            self.task_done[attempt.task] = True
            self.n_left -= 1
            self.map_s = self.seen_s(now_s)
            for image in self.tasks[attempt.task]:
                self.n_times_done[image] += 1
        self.look_and_free(now_s, attempt)

    def fail(self, now_s: float, attempt: _Attempt) -> None:
        """Try again, or give up."""
        gives_up = self.n_attempts[attempt.task] > self.assume.retries
        purpose: Purpose = "waste" if gives_up else "retry"
        if self.task_done[attempt.task]:
            purpose = "twin"
        elif gives_up and not any(item.task == attempt.task for item in self.running - {attempt}):
            self.n_left -= 1
            self.map_s = max(self.map_s, self.seen_s(now_s))
        elif not gives_up:
            self.queue.append(attempt.task)
        self.finish(now_s, attempt, purpose)
        self.look_and_free(now_s, attempt)

    def seen_s(self, now_s: float) -> float:
        """Say when the client sees what has happened."""
        poll_s = self.assume.poll_s
        return math.ceil(now_s / poll_s) * poll_s if poll_s else now_s

    def look_and_free(self, now_s: float, attempt: _Attempt) -> None:
        """Let the client see that an attempt ended, and send what comes next."""
        self.at(self.seen_s(now_s), self.free, attempt.environment)

    def finish(self, now_s: float, attempt: _Attempt, purpose: Purpose) -> None:
        """Write an attempt into the bill."""
        self.running.discard(attempt)
        attempt.ended_s = now_s
        duration_s = now_s - attempt.started_s
        if purpose == "work":
            self.durations.append(duration_s)
        init_ms = attempt.init_s * 1000
        self.calls.append(Call(duration_s * 1000, self.shape.memory_mb, init_ms, purpose))

    def watch(self, attempt: _Attempt) -> None:
        """Look at an attempt again when it has run too long, once it is known what that is."""
        if self.patience_s is not None:
            self.at(attempt.started_s + self.patience_s, self.look, attempt)

    def look(self, now_s: float, attempt: _Attempt) -> None:
        """Give a slow attempt a twin."""
        is_over = attempt.ended_s is not None or self.task_done[attempt.task]
        if not is_over and self.idle and self.twins_left:
            self.twins_left -= 1
            self.start(now_s, self.idle.pop(0), attempt.task)

    def usage(self, n_done: int, reduce: ReduceResult) -> Usage:
        """Add up what was used."""
        n_gets = round(self.n_gets * self.profile.n_get_image) + reduce.worker.n_get
        n_requests = (n_gets, self.n_puts + reduce.worker.n_put)
        calls_s = self.map_s + reduce.calls_s
        usage = count_usage(
            replace(self.shape, n_images=n_done), self.profile, [*self.calls, *reduce.calls],
            n_requests, calls_s, self.assume,
        )  # fmt: skip
        return usage + reduce.client
