"""What a simulated run is made of, and what is taken for granted in it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from hstmap.errors import UsageError

if TYPE_CHECKING:
    from hstmap.account.run_profile import Profile
    from hstmap.batch import Catalogs

__all__ = [
    "EXPECTED",
    "HIGH",
    "LOW",
    "VCPU_MB",
    "Assumptions",
    "RunShape",
    "assumption_sets",
    "cpu_speed",
]

#: Memory that comes with a whole vCPU, MB.
#: https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
VCPU_MB: Final = 1769
#: Less than a vCPU is given as a part of each period, after which a worker is stopped until the
#: next one. The period is that of the loopback AWS; what going on after a stop takes is what
#: `python -m benchmarks billed` shows there: 2 to 5 % at half a vCPU, 4 to 9 % at 512 MB. Of
#: Lambda both are assumed.
_PERIOD_S: Final = 0.02
_RESUME_S: Final = 0.0004


def cpu_speed(memory_mb: float) -> float:
    """Say how fast a worker computes, as a share of how fast it does on a whole vCPU.

    Parameters
    ----------
    memory_mb : float

    Returns
    -------
    float
        A bit less than its share of a vCPU, for its stops; 1 at most, as it computes on one.
    """
    share = memory_mb / VCPU_MB
    return 1.0 if share >= 1 else share / (1 + _RESUME_S / (_PERIOD_S * share))


@dataclass(frozen=True)
class Assumptions:
    """What was not measured.

    Attributes
    ----------
    ramp_environments, ramp_s : int, float
        A function gets so many more environments every so often (AWS: 1,000 every 10 s).
    calls_a_second : float
        Calls that the client sends (assumed).
    first_byte_s : float
        Time to the first byte of a GET, and of a PUT to its answer, s (assumed).
    bandwidth_nbytes_s : float
        Of a worker (assumed: 600 Mbit/s).
    get_rate, put_rate : float
        Requests a second before S3 throttles (AWS: 5,500 and 3,500 a partitioned prefix; one
        prefix assumed). What is throttled waits its turn.
    cpu_ratio : float
        Time that a vCPU of Lambda takes over that of the profile's machine (assumed).
    init_ratio : float
        INIT over the profile's starts, for what an environment takes besides (assumed).
    straggler_share, straggler_slowdown : float
        Attempts that are slowed, and how much (assumed).
    failure_share : float
        Attempts that fail at a random point (assumed).
    retries : int
        Further attempts of a task.
    twin_fraction, twin_slowdown : float
        A slow attempt's task gets a second one after so many typical durations, once three
        quarters of the tasks are done; at most this fraction of the tasks does.
    poll_s : float
        Time between two looks of the client at what has ended, s, after which it sends the next
        calls: the monitoring_interval of lithops_config.yaml.
    copy_nbytes_s : float
        What S3 copies of one object, bytes a second (assumed).
    """

    ramp_environments: int = 1000
    ramp_s: float = 10.0
    calls_a_second: float = 500.0
    first_byte_s: float = 0.03
    bandwidth_nbytes_s: float = 75e6
    get_rate: float = 5500.0
    put_rate: float = 3500.0
    cpu_ratio: float = 1.0
    init_ratio: float = 3.0
    straggler_share: float = 0.01
    straggler_slowdown: float = 3.0
    failure_share: float = 0.002
    retries: int = 2
    twin_fraction: float = 0.05
    twin_slowdown: float = 3.0
    poll_s: float = 0.5
    copy_nbytes_s: float = 100e6


@dataclass(frozen=True)
class RunShape:
    """What is to be run on what.

    Attributes
    ----------
    n_images : int
    n_workers : int
        Calls at a time: the quota.
    batch_size : int, optional
        Images a call; by default so many that a worker gets four calls, 100 at most.
    memory_mb : int
    catalogs : {"image", "batch", "none"}
        Whether each image gets a FITS file, each call one for its images, or none do.
    rows_a_file : int, optional
        About how many sources a file of the summary has; by default as `hstmap reduce` has it.
    is_pilot : bool
        Whether the rest of the run comes after it: then nothing is merged yet.
    n_warm : int
        Environments that are there already and need no INIT.
    n_parts_there : int
        Parts of earlier maps of the run, which are merged with those of this one.
    poll_s : float, optional
        How often the client looks, s; by default as assumed.
    """

    n_images: int
    n_workers: int = 1000
    batch_size: int | None = None
    memory_mb: int = VCPU_MB
    catalogs: Catalogs = "image"
    rows_a_file: int | None = None
    is_pilot: bool = False
    n_warm: int = 0
    n_parts_there: int = 0
    poll_s: float | None = None

    def __post_init__(self) -> None:
        if min(self.n_images, self.n_workers, self.images_a_call) < 1:
            raise UsageError(
                f"{self.n_images} images, {self.n_workers} workers and {self.images_a_call} "
                "images a call; give 1 or more of each"
            )

    @property
    def images_a_call(self) -> int:
        """Images a call."""
        if self.batch_size is not None:
            return self.batch_size
        return max(1, min(100, math.ceil(self.n_images / (4 * max(1, self.n_workers)))))

    @property
    def n_calls(self) -> int:
        """Calls, if none is made again."""
        return math.ceil(self.n_images / self.images_a_call)

    @property
    def cpu_speed(self) -> float:
        """How fast a worker computes, as a share of how fast it does on a whole vCPU."""
        return cpu_speed(self.memory_mb)


EXPECTED: Final = Assumptions()
#: Nothing goes wrong, and Lambda starts and computes as fast as the profile's machine.
LOW: Final = replace(
    EXPECTED, init_ratio=1.0, calls_a_second=1000.0, straggler_share=0.0, failure_share=0.0
)
#: Half as fast a vCPU, slow starts, three times as many stragglers, and many failures.
HIGH: Final = replace(
    EXPECTED,
    cpu_ratio=2.0,
    init_ratio=6.0,
    calls_a_second=250.0,
    straggler_share=0.03,
    failure_share=0.02,
)


def assumption_sets(
    shape: RunShape, profile: Profile
) -> tuple[Assumptions, Assumptions, Assumptions]:
    """Give the expected assumptions, the low ones and the high ones, for a run.

    Parameters
    ----------
    shape : RunShape
    profile : Profile
        Times that were measured on Lambda are taken as they are. So are failures, as far as there
        were calls enough: the share that is assumed counts as one failure in as many calls as that
        takes (the mean of a beta distribution, with the assumption as its prior).

    Returns
    -------
    tuple of Assumptions
    """
    known: dict[str, Any] = {}
    expected, high = EXPECTED, HIGH
    if profile.on_lambda:
        known |= {"cpu_ratio": 1.0, "init_ratio": 1.0}
        share = (1 + profile.n_failures) / (1 / EXPECTED.failure_share + profile.n_attempts)
        expected = replace(EXPECTED, failure_share=share)
        high = replace(HIGH, failure_share=max(share, HIGH.failure_share))
    if shape.poll_s is not None:
        known["poll_s"] = shape.poll_s
    return replace(expected, **known), replace(LOW, **known), replace(high, **known)
