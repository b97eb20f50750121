"""The reduce of a simulated run: one file that the client writes, or files that calls write."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from hstmap.account.run_assumptions import EXPECTED, Assumptions, RunShape
from hstmap.account.run_profile import Profile, load_profile
from hstmap.aws.bill import price
from hstmap.aws.price_table import PriceTable
from hstmap.aws.usage import Call, Usage
from hstmap.storage_backend import MULTIPART_NBYTES, n_put_requests
from hstmap.summary_files import n_files_of

__all__ = ["ReduceResult", "model_reduce", "n_files", "reduce_calls_usd"]

#: What a source takes in a summary: 167 bytes of the built-in sample and of real frames.
_NBYTES_A_SOURCE: Final = 167
#: The client's, for each image: its row is read before the calls; written, and its outline united
#: with the others, meanwhile. `python -m benchmarks reduce` fits the sum.
_CLIENT_S_IMAGE: Final = 25e-6
_CLIENT_MEANWHILE_S_IMAGE: Final = 65e-6
#: Connections over which the client reads the ends of parts, and has files moved.
_N_CONNECTIONS_PARTS: Final = 32
_N_CONNECTIONS_FILES: Final = 64


@dataclass(frozen=True)
class ReduceResult:
    """How a simulated reduce went.

    Attributes
    ----------
    seconds, calls_s : float
        From the end of the map until the summary is there; of it, while calls wrote files, s.
    calls : tuple of Call
        Empty if the client writes the one file.
    worker, client : Usage
        Requests of the calls, and what the client asks for more than for a single file.
    """

    seconds: float
    calls_s: float = 0.0
    calls: tuple[Call, ...] = ()
    worker: Usage = field(default_factory=Usage)
    client: Usage = field(default_factory=Usage)


def n_files(n_images: int, shape: RunShape, profile: Profile) -> int:
    """Say how many files the sources of images fill, about.

    Parameters
    ----------
    n_images : int
    shape : RunShape
    profile : Profile

    Returns
    -------
    int
    """
    n_sources = math.ceil(n_images * profile.merged_nbytes_image / _NBYTES_A_SOURCE)
    return n_files_of(n_sources, shape.rows_a_file)


def model_reduce(
    n_images: int,
    shape: RunShape,
    profile: Profile,
    assumptions: Assumptions,
    random: np.random.Generator | None = None,
) -> ReduceResult:
    """Simulate the reduce.

    Parameters
    ----------
    n_images : int
        Those that have a result.
    shape : RunShape
    profile : Profile
    assumptions : Assumptions
    random : numpy.random.Generator, optional
        Draws which calls are slow; by default all take what they take on average.

    Returns
    -------
    ReduceResult
    """
    n = n_files(n_images, shape, profile)
    if n == 1 or shape.is_pilot:
        return ReduceResult(_single_s(n_images, profile, assumptions))
    durations = _durations(n_images / n, n, shape, profile, assumptions, random)
    calls_s = profile.send_s + n / assumptions.calls_a_second + assumptions.poll_s / 2
    calls_s += _scheduled_s(durations, shape.n_workers)
    n_parts = shape.n_calls + shape.n_parts_there
    nbytes = n_images * profile.merged_nbytes_image / n
    n_rounds = math.ceil(n / _N_CONNECTIONS_FILES)
    client_s = n_images * _CLIENT_S_IMAGE
    client_s += math.ceil(n_parts / _N_CONNECTIONS_PARTS) * assumptions.first_byte_s
    moved_s = n_rounds * (2 * assumptions.first_byte_s + nbytes / assumptions.copy_nbytes_s)
    return ReduceResult(
        seconds=client_s + max(calls_s + moved_s, n_images * _CLIENT_MEANWHILE_S_IMAGE),
        calls_s=calls_s,
        calls=tuple(Call(value * 1000, shape.memory_mb) for value in durations),
        # A part that lies across the edge of two files is read for both.
        worker=Usage(n_get=n_parts + n - 1, n_put=n * _n_put(math.ceil(nbytes))),
        # Parts are read by calls; files have their ends read and are moved; what was there before
        # is looked for; the calls have a ledger of their own, the folder a mark until it is whole.
        client=Usage(n_get=n + 1 - n_parts, n_put=n + 3, n_list=1),
    )


def reduce_calls_usd(
    n_images: int, shape: RunShape, prices: PriceTable, architecture: str
) -> float:
    """Say what the calls of a reduce are expected to cost, by the built-in profile.

    Parameters
    ----------
    n_images : int
    shape : RunShape
    prices : PriceTable
    architecture : str

    Returns
    -------
    float
        US dollars; nothing if the client writes the one file.
    """
    reduce = model_reduce(n_images, shape, load_profile(), EXPECTED)
    if not reduce.calls:
        return 0.0
    return price(replace(reduce.worker, calls=reduce.calls), prices, architecture).list_usd


def _n_put(nbytes: int) -> int:
    return n_put_requests(nbytes, in_parts=nbytes > MULTIPART_NBYTES)


def _single_s(n_images: int, profile: Profile, assumptions: Assumptions) -> float:
    """Say how long a client in the region takes to merge the parts, s."""
    transfer_s = profile.part_nbytes_image / assumptions.bandwidth_nbytes_s
    return n_images * (transfer_s + profile.reduce_s_image)


def _durations(
    n_images: float,
    n: int,
    shape: RunShape,
    profile: Profile,
    assumptions: Assumptions,
    random: np.random.Generator | None,
) -> list[float]:
    """Say how long calls take that merge so many images each, s."""
    assume = assumptions
    compute_s = n_images * profile.reduce_s_image * assume.cpu_ratio / shape.cpu_speed
    fetch_s = n_images * profile.part_nbytes_image / assume.bandwidth_nbytes_s
    write_s = n_images * profile.merged_nbytes_image / assume.bandwidth_nbytes_s
    # The next parts come while one is merged; the file goes out when it is whole.
    even_s = 2 * assume.first_byte_s + max(compute_s, fetch_s) + write_s + profile.call_s
    slower = assume.straggler_slowdown - 1
    if random is None:
        return [even_s * (1 + assume.straggler_share * slower)] * n
    is_slow = random.random(n) < assume.straggler_share
    return [float(value) for value in even_s * (1 + slower * is_slow)]


def _scheduled_s(durations: list[float], n_workers: int) -> float:
    """Let so many workers, all warm, make calls; say when the last one ends, s."""
    free_s = [0.0] * min(n_workers, len(durations))
    for duration in durations:
        heapq.heappush(free_s, heapq.heappop(free_s) + duration)
    return max(free_s)
