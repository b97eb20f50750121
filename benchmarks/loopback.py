"""Runs on the loopback AWS, for benchmarks of what is billed."""

from __future__ import annotations

import io
import itertools
import os
import subprocess
import sys
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
import yaml
from astropy.io import fits

from hstmap.aws.deploy import deploy
from hstmap.aws.local import InvocationRecord, LocalAws, LocalAwsOptions
from hstmap.aws.package import build_installed
from hstmap.aws.session import AwsSession
from hstmap.aws.settings import AwsSettings, aws_settings
from hstmap.storage import Store, open_store
from hstmap.wfc3.simulate import make_sample

#: How often the client looks for ended calls, s.
POLL_S = 0.2
_FUNCTION_TIMEOUT_S = 300
_N_SIMULATED = 6
#: Of what an image's errors say: enough to make each its own, and too little to be seen.
_FURTHER_NOISE = 0.1


@dataclass(frozen=True)
class LoopbackRun:
    """What a map on the loopback AWS came to.

    Attributes
    ----------
    out : str
        URL of the run.
    calls : tuple of InvocationRecord
        Its invocations, as the loopback AWS billed them.
    said : str
        What the command printed.
    """

    out: str
    calls: tuple[InvocationRecord, ...]
    said: str

    @property
    def gb_s(self) -> float:
        """Billed GB-seconds, INIT included."""
        reports = [call.report for call in self.calls]
        return sum(r.billed_duration_ms * r.memory_size_mb for r in reports) / 1000 / 1024

    @property
    def n_cold(self) -> int:
        """Calls that started an environment."""
        return sum(call.report.init_duration_ms is not None for call in self.calls)


@dataclass(frozen=True)
class Loopback:
    """A loopback AWS with the function deployed.

    Attributes
    ----------
    aws : LocalAws
    settings : AwsSettings
    folder : Path
        For configuration files.
    package : Path
        What is deployed.
    """

    aws: LocalAws
    settings: AwsSettings
    folder: Path
    package: Path

    @property
    def bucket_url(self) -> str:
        """The bucket that workers may use."""
        return f"s3://{self.settings.bucket}"

    def put_images(self, images: Iterable[tuple[str, bytes]]) -> str:
        """Put images where workers can read them.

        Parameters
        ----------
        images : iterable of (str, bytes)
            File names and contents.

        Returns
        -------
        str
            URL of the folder.
        """
        url = f"{self.bucket_url}/images-{uuid.uuid4().hex[:8]}"
        store = open_store(url)
        for name, content in images:
            store.put(name, content)
        return url

    def map(self, source: str, memory_mb: int, *words: str) -> LoopbackRun:
        """Run ``hstmap map``, as users do, and wait until nothing is under way.

        Parameters
        ----------
        source : str
        memory_mb : int
            The function is changed to it, which ends its warm environments.
        *words : str
            Further arguments.

        Returns
        -------
        LoopbackRun

        Raises
        ------
        RuntimeError
            If it failed.
        """
        config = self.folder / f"{self.settings.function}-{memory_mb}.yaml"
        config.write_text(yaml.safe_dump(self._config(memory_mb)))
        out = f"{self.bucket_url}/run-{uuid.uuid4().hex[:8]}"
        command = [sys.executable, "-m", "hstmap", "map", source, "--out", out]
        command += ["--config", str(config), *words]
        n_before = len(self.aws.invocation_log)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        self.aws.wait_until_idle()
        return LoopbackRun(out, tuple(self.aws.invocation_log[n_before:]), done.stdout)

    def beside(self, memory_mb: int) -> Loopback:
        """Deploy a function of another size, whose environments stay warm beside the others'.

        Parameters
        ----------
        memory_mb : int

        Returns
        -------
        Loopback
            The same, with that function.
        """
        name = f"{self.settings.function}-{memory_mb}"
        config = self._config(memory_mb)
        config["aws_lambda"]["runtime"] = name
        settings = aws_settings(config, self.settings.account_id)
        other = replace(self, settings=replace(settings, bucket=self.settings.bucket))
        other.deploy()
        return other

    def deploy(self) -> None:
        """Deploy the function."""
        for _ in deploy(AwsSession(self.settings.region), self.settings, self.package):
            pass

    def end_environments(self) -> None:
        """End the warm environments, as Lambda does when a function is changed."""
        client = self.aws.client("lambda")
        client.update_function_configuration(
            FunctionName=self.settings.function, Description=f"changed {uuid.uuid4().hex[:8]}"
        )
        client.get_waiter("function_updated_v2").wait(FunctionName=self.settings.function)

    def store(self, run: LoopbackRun) -> Store:
        """Open what a run left."""
        return open_store(run.out)

    def _config(self, memory_mb: int) -> dict[str, Any]:
        return {
            "lithops": {
                "backend": "aws_lambda",
                "storage": "aws_s3",
                "monitoring_interval": POLL_S,
            },
            "aws": {"region": self.settings.region},
            "aws_lambda": {
                "runtime": self.settings.function,
                "runtime_memory": memory_mb,
                "runtime_timeout": _FUNCTION_TIMEOUT_S,
                "max_workers": self.settings.max_workers,
            },
        }


def loopback_images(frames: Sequence[Path], n_images: int) -> Iterator[tuple[str, bytes]]:
    """Take frames, or make some, again and again under other names, each with noise of its own.

    Without that, parts and summaries would be far smaller than those of different images: equal
    sources compress to nothing.

    Parameters
    ----------
    frames : sequence of Path
        FLT files.
    n_images : int

    Yields
    ------
    str, bytes
        File name and content.
    """
    contents = [frame.read_bytes() for frame in frames]
    n_simulated = min(n_images, _N_SIMULATED)
    contents = contents or [image.content for image in make_sample(n_simulated)]
    plates = [_Plate.of(content, seed) for seed, content in enumerate(contents)]
    for number, plate in zip(range(n_images), itertools.cycle(plates), strict=False):
        yield f"ival{number:04d}q_flt.fits", plate.copy(number // len(plates))


@dataclass(frozen=True, eq=False)
class _Plate:
    """A frame, where its pixels are in the file, and noise to add to them."""

    content: bytes
    first: int
    noise: np.ndarray

    @classmethod
    def of(cls, content: bytes, seed: int) -> _Plate:
        with fits.open(io.BytesIO(content)) as hdus:
            errors = np.asarray(hdus["ERR", 1].data, np.float32)
            noise = np.random.default_rng(seed).normal(0.0, _FURTHER_NOISE * errors)
            first = hdus["SCI", 1].fileinfo()["datLoc"]
        return cls(content, first, noise.astype(np.float32).ravel())

    def copy(self, number: int) -> bytes:
        """Make a copy, of which the first is the frame as it is."""
        if number == 0:
            return self.content
        copy = bytearray(self.content)
        pixels = np.frombuffer(copy, ">f4", self.noise.size, self.first)
        pixels += np.roll(self.noise, 1009 * number)
        return bytes(copy)


@contextmanager
def deployed_loopback(n_workers: int = 2) -> Iterator[Loopback]:
    """Start a loopback AWS with SeaweedFS as S3 and the function deployed; lead this process there.

    Parameters
    ----------
    n_workers : int
        Calls at a time.

    Yields
    ------
    Loopback
    """
    options = LocalAwsOptions(s3="seaweedfs", concurrency=max(10, n_workers))
    with TemporaryDirectory() as name, LocalAws(options) as aws:
        folder = Path(name)
        kept = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
        with patch.dict(os.environ, kept | dict(aws.environment), clear=True):
            session = AwsSession(options.region)
            section = {"runtime_timeout": _FUNCTION_TIMEOUT_S, "max_workers": n_workers}
            config = {"aws": {"region": options.region}, "aws_lambda": section}
            settings = aws_settings(config, session.account_id())
            # SeaweedFS knows no access blocks, which a bucket that `deploy` makes would get.
            session.client("s3").create_bucket(Bucket=settings.bucket)
            loopback = Loopback(aws, settings, folder, build_installed(folder))
            loopback.deploy()
            print(f"isolation {aws.isolation.description}")
            yield loopback
