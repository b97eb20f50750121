"""What a loopback AWS is told when it starts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from hstmap.aws.local.faults import Fault
from hstmap.errors import UsageError

__all__ = ["LocalAwsOptions"]


@dataclass(frozen=True)
class LocalAwsOptions:
    """How a loopback AWS behaves; the defaults are a new AWS account's where AWS has one.

    Parameters
    ----------
    region : str
        The region in the clients' environment. Functions may be created in any.
    account_id : str
        Twelve digits; moto's own account by default, so that all services agree.
    concurrency : int
        How many invocations may run at once in the account; new AWS accounts have 10.
    retry_delays_s : tuple of float
        Seconds before the first and the second retry of a failed asynchronous event.
        AWS waits one and two minutes [1]_; tests shorten it.
    n_cores : float, optional
        The sum of the CPU shares that may be busy at once, by default the host's cores.
        ``math.inf`` lifts the admission control: durations then inflate under load.
    init_timeout_s : float
        How long INIT may take; 10 s on AWS.
    keep_warm_s : float
        How long an idle environment is kept.
    sandbox : {'auto', 'bubblewrap', 'none'}
        How environments see the file system; ``'auto'`` takes bubblewrap where it works.
    limits : {'auto', 'cgroups', 'rlimits'}
        What holds the memory and the CPU share; ``'auto'`` takes cgroups where they work.
    s3 : {'moto', 'seaweedfs'}
        Which server is S3: moto is right for tests, SeaweedFS for load.
    port : int
        The port of the Lambda API on 127.0.0.1; 0 takes a free one.
    faults : tuple of Fault
        Faults that are scripted from the start.
    runtime_packages : tuple of str
        The installed distributions that a function finds in ``/var/lang``, with what they
        need: by default what AWS's Python runtimes have.
    runtimes : mapping of str to Path
        Further runtimes, such as ``{"python3.12": Path("/a/venv/with/awslambdaric")}``.
    images : mapping of str to Path
        Unpacked images by their digest, such as ``{"sha256:12...": Path("/a/root")}``.
    environment : mapping of str to str
        Environment variables that every function gets besides its own.
    state_folder : Path, optional
        Where runs keep their files, by default a folder of the user's in the temporary one.

    References
    ----------
    .. [1] https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html
    """

    region: str = "us-east-1"
    account_id: str = "123456789012"
    concurrency: int = 10
    retry_delays_s: tuple[float, ...] = (60.0, 120.0)
    n_cores: float | None = None
    init_timeout_s: float = 10.0
    keep_warm_s: float = 600.0
    sandbox: Literal["auto", "bubblewrap", "none"] = "auto"
    limits: Literal["auto", "cgroups", "rlimits"] = "auto"
    s3: Literal["moto", "seaweedfs"] = "moto"
    port: int = 0
    faults: tuple[Fault, ...] = ()
    runtime_packages: tuple[str, ...] = ("awslambdaric", "boto3")
    runtimes: Mapping[str, Path] = field(default_factory=dict)
    images: Mapping[str, Path] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    state_folder: Path | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if self.concurrency < 1:
            raise UsageError(
                f"concurrency is {self.concurrency}, but at least one invocation must be able "
                "to run: give 1 or more"
            )
        if not self.retry_delays_s or min(self.retry_delays_s) < 0:
            raise UsageError(
                f"retry_delays_s is {self.retry_delays_s}: give seconds for the first and the "
                "second retry, 0 or more"
            )
        if self.n_cores is not None and not self.n_cores > 0:
            raise UsageError(f"n_cores is {self.n_cores}: give a number above 0, or math.inf")

    @property
    def admitted_cores(self) -> float:
        """The sum of CPU shares that may be busy at once."""
        if self.n_cores is not None:
            return self.n_cores
        return float(len(os.sched_getaffinity(0)))
