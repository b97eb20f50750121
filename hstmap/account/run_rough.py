"""A run on Lambda in closed form: what `run_model` comes to on average, in microseconds.

Good for ranking many ways to make a run; where nothing is drawn at random and no link is slower
than its worker, it is what the simulation says.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from hstmap.account.run_assumptions import Assumptions, RunShape
from hstmap.account.run_profile import Profile
from hstmap.account.run_reduce import model_reduce
from hstmap.account.run_usage import count_usage
from hstmap.aws.usage import Call, Usage
from hstmap.batch import n_catalog_files

__all__ = ["RoughResult", "rough_run"]


@dataclass(frozen=True)
class RoughResult:
    """How a run would go on average.

    Attributes
    ----------
    map_s, reduce_s : float
    call_s : float
        Mean duration of a call, s.
    usage : Usage
    """

    map_s: float
    reduce_s: float
    call_s: float
    usage: Usage

    @property
    def total_s(self) -> float:
        """Map and reduce, s."""
        return self.map_s + self.reduce_s


def rough_run(shape: RunShape, profile: Profile, assumptions: Assumptions) -> RoughResult:
    """Work a run out with means in the place of distributions.

    Parameters
    ----------
    shape : RunShape
    profile : Profile
    assumptions : Assumptions

    Returns
    -------
    RoughResult
    """
    assume, n_calls = assumptions, shape.n_calls
    even_s = _call_s(shape.n_images / n_calls, shape, profile, assume)
    call_s = even_s * (1 + assume.straggler_share * (assume.straggler_slowdown - 1))
    init_s = statistics.fmean(profile.init_s) * assume.init_ratio
    n_gets = round(shape.n_images * profile.n_get_image)
    n_puts = n_calls + n_catalog_files(shape.catalogs, shape.n_images, n_calls)
    # On average the client looks half an interval after a call has ended.
    turn_s = profile.send_s + call_s + assume.poll_s / 2
    worked_s, n_cold = _work(shape, turn_s, assume)
    sent_s = n_calls / assume.calls_a_second + profile.send_s + call_s
    stored_s = max(n_puts / assume.put_rate, n_gets / assume.get_rate)
    begins_s = profile.boot_s + init_s if shape.n_warm < n_cold else 0.0
    busy_s = begins_s + max(worked_s, sent_s)
    is_tail_slow = min(1.0, n_calls * assume.straggler_share)
    tail_s = is_tail_slow * (assume.straggler_slowdown - 1) * even_s
    map_s = max(busy_s, stored_s) + tail_s
    # Who waits for S3 waits at Lambda's price.
    waited_s = n_cold * max(0.0, stored_s - busy_s) / n_calls
    call_ms = (call_s + waited_s) * 1000
    # A call that fails does so at a random point: half of it, on average, is for nothing.
    n_failed = round(n_calls * assume.failure_share)
    n_init = max(0, n_cold - shape.n_warm)
    calls = [
        Call(call_ms, shape.memory_mb, init_s * 1000, n=n_init),
        Call(call_ms, shape.memory_mb, n=n_calls - n_init),
        Call(call_ms / 2, shape.memory_mb, purpose="retry", n=n_failed),
    ]
    reduce = model_reduce(shape.n_images, shape, profile, assume)
    made = [*(call for call in calls if call.n), *reduce.calls]
    n_requests = (n_gets + reduce.worker.n_get, n_puts + reduce.worker.n_put)
    usage = count_usage(shape, profile, made, n_requests, map_s + reduce.calls_s, assume)
    return RoughResult(map_s, reduce.seconds, call_s, usage + reduce.client)


def _call_s(n_images: float, shape: RunShape, profile: Profile, assume: Assumptions) -> float:
    """Say how long a call of so many images takes that nothing slows, s."""
    catalog_s = 0.0 if shape.catalogs == "none" else profile.mean_catalog_s
    ratio = assume.cpu_ratio / shape.cpu_speed
    image_s = (profile.mean_compute_s + catalog_s) * ratio
    made_s = n_images * profile.overhead_s_image * ratio + profile.call_s
    if profile.wait_s:
        return n_images * image_s + made_s + statistics.fmean(profile.wait_s)
    fetch_s = profile.mean_nbytes_read / assume.bandwidth_nbytes_s
    put_s = n_images * profile.part_nbytes_image / assume.bandwidth_nbytes_s
    # The first image is waited for; the others come meanwhile, unless the link is too slow.
    waited_s = 2 * assume.first_byte_s + fetch_s + put_s
    return waited_s + image_s + (n_images - 1) * max(image_s, fetch_s) + made_s


def _work(shape: RunShape, call_s: float, assume: Assumptions) -> tuple[float, int]:
    """Let environments, as they come, make calls of one length, without their INIT.

    Returns
    -------
    float, int
        When all calls are made, s, and how many environments it took.
    """
    # A client that sends slowly finds environments free that it had called before.
    n_busy = math.ceil(assume.calls_a_second * call_s)
    n_most = max(1, min(shape.n_workers, shape.n_calls, n_busy))
    step, used = assume.ramp_environments, list[tuple[float, int]]()
    for first in range(0, n_most, step):
        now_s = first / step * assume.ramp_s
        if sum(n * math.ceil((now_s - ready_s) / call_s) for ready_s, n in used) >= shape.n_calls:
            break  # all calls are on their way
        used.append((now_s, min(step, n_most - first)))
    n_used = sum(n for _, n in used)
    end_s = (shape.n_calls * call_s + sum(n * ready_s for ready_s, n in used)) / n_used
    # Calls are whole: the end is that of some environment's last one.
    ends_s = sorted(
        ready_s + math.ceil((end_s - ready_s) / call_s - 1e-9 + k) * call_s
        for ready_s, _ in used
        for k in (0, 1)
    )
    return next(
        time_s
        for time_s in ends_s
        if sum(n * int((time_s - ready_s) / call_s + 1e-9) for ready_s, n in used) >= shape.n_calls
    ), n_used
