"""Whole runs on a loopback Lambda under faults at random: none may hang, lose a row, or differ.

Each run does the same few small frames by the pipeline: manifest, batches of one image, parts,
summary. A seed draws what goes wrong (429s, dropped and doubled events, workers killed before
INIT, midway, and with their work done, slow starts), when, and how often. The summary must be
that of this process, byte by byte. A run that takes longer than ``--limit`` ends everything, with
the stacks of all threads.

``python -m benchmarks faults [--runs 200] [--first-seed 0] [--short] [--json FILE]``; in pieces:
``--runs 50 --first-seed 150``.
"""

from __future__ import annotations

import argparse
import faulthandler
import hashlib
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hstmap.archive.manifest import Manifest
    from hstmap.aws.local import Fault, LocalAws
    from hstmap.bag.engine import EngineOptions

N_IMAGES = 6
FUNCTION = "hstmap"
_SIDE = 128
_RETRIES = 30
_START_TIMEOUT_S = 3.0
_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class FaultyRun:
    """What became of one run.

    Parameters
    ----------
    elapsed_s : float
    fired : dict of str to int
        Faults that happened, by kind.
    n_attempts : int
        Attempts that the run knows of.
    n_invocations : int
        Times that the function ran, or was started in vain.
    outcomes : dict of str to int
        Images by outcome.
    digest : str
        SHA-256 of summary and catalogues.
    """

    elapsed_s: float
    fired: dict[str, int]
    n_attempts: int
    n_invocations: int
    outcomes: dict[str, int]
    digest: str


class FaultBench:
    """A deployment on a loopback AWS, and the images that every run does.

    Parameters
    ----------
    aws : LocalAws
        Running, and led to by this process's environment.
    lithops_config : mapping
        Of a deployment there.
    """

    def __init__(self, aws: LocalAws, lithops_config: dict[str, Any]) -> None:
        from hstmap.storage import open_store

        self.aws = aws
        self._config = lithops_config
        self._bucket = f"s3://{lithops_config['aws_s3']['storage_bucket']}"
        self._source = f"{self._bucket}/faults/images"
        store = open_store(self._source)
        for name, content in small_frames():
            store.put(name, content)
        self._n_runs = 0
        self.expected = self.run((), engine="inprocess").digest

    def run(self, faults: Sequence[Fault], engine: str = "lithops", **options: Any) -> FaultyRun:
        """Do the images while faults happen.

        Parameters
        ----------
        faults : sequence of Fault
        engine : {"lithops", "inprocess"}
        **options
            Of `hstmap.bag.engine.EngineOptions`.
        """
        from hstmap.bag.engine import make_engine
        from hstmap.batch import RunParameters
        from hstmap.pipeline import RunOptions, plan_run, run_map
        from hstmap.summary import reduce_run

        out = f"{self._bucket}/faults/run-{os.getpid()}-{self._n_runs}"
        self._n_runs += 1
        run_options, manifest = RunOptions(batch_size=1), self._manifest()
        n_fired, n_run = len(self.aws.faults.fired), len(self.aws.invocation_log)
        self.aws.faults.add(*faults)
        started = time.perf_counter()
        try:
            plan = plan_run(manifest, out, RunParameters(), run_options)
            with make_engine(engine, self._options(options)) as made:
                result = run_map(plan, manifest, made, run_options)
            summary = reduce_run(out)
            elapsed_s = time.perf_counter() - started
        finally:
            self.aws.wait_until_idle()  # what comes late meets its fault, too
            self.aws.faults.clear()
        fired = Counter(item.fault.kind for item in self.aws.faults.fired[n_fired:])
        return FaultyRun(
            elapsed_s=round(elapsed_s, 3),
            fired=dict(sorted(fired.items())),
            n_attempts=result.n_attempts,
            n_invocations=len(self.aws.invocation_log) - n_run,
            outcomes=summary.outcomes,
            digest=_digest(out),
        )

    def end_environments(self) -> None:
        """Change the function, so that each worker's next start is a cold one."""
        self.aws.client("lambda").update_function_configuration(
            FunctionName=FUNCTION, Description=f"at {time.time()}"
        )

    def _manifest(self) -> Manifest:
        from hstmap.archive.sources import resolve_sources

        return resolve_sources([self._source])

    def _options(self, changes: dict[str, Any]) -> EngineOptions:
        from hstmap.bag.engine import EngineOptions

        options = EngineOptions(
            retries=_RETRIES, timeout_s=_TIMEOUT_S, start_timeout_s=_START_TIMEOUT_S,
            lithops_config=self._config,
        )  # fmt: skip
        return replace(options, **changes)


def small_frames() -> Iterator[tuple[str, bytes]]:
    """Simulate frames that take a worker no time."""
    from hstmap.wfc3.simulate import sample_scenes, simulate_flt

    for rootname, scene in sample_scenes(N_IMAGES):
        image = simulate_flt(replace(scene, subarray=_SIDE), rootname)
        yield image.filename, image.content


def _digest(out: str) -> str:
    """Hash what must not depend on where a run ran and what happened to it."""
    from hstmap.storage import open_store

    store = open_store(out)
    names = [info.key for info in store.list("catalogs/")] + ["sources.parquet"]
    contents = ((name, hashlib.sha256(store.get(name)).hexdigest()) for name in sorted(names))
    return hashlib.sha256(repr(list(contents)).encode()).hexdigest()


def draw_faults(seed: int) -> tuple[list[Fault], bool]:
    """Draw what goes wrong in a run, and whether all workers start cold.

    Parameters
    ----------
    seed : int

    Returns
    -------
    list of Fault
        Three to eight, each once to three times.
    bool
    """
    from hstmap.aws.local import FAULT_KINDS, Fault

    generator = random.Random(seed)
    faults = []
    for _ in range(generator.randint(3, 8)):
        kind = generator.choice(FAULT_KINDS)
        longest_s = {"kill-midway": 0.1, "slow-start": 1.5}.get(kind, 0.0)
        fault = Fault(
            kind,
            function=FUNCTION,
            n_skip=generator.randrange(N_IMAGES),
            n_times=generator.randint(1, 3),
            probability=generator.choice((1.0, 0.5)),
            delay_s=longest_s * generator.random(),
        )
        faults.append(fault)
    return faults, generator.random() < 0.5


@contextmanager
def deployed_bench() -> Iterator[FaultBench]:
    """Start a loopback AWS, and deploy there what is installed here."""
    from hstmap.aws.deploy import deploy
    from hstmap.aws.local import LocalAws, LocalAwsOptions
    from hstmap.aws.package import build_installed
    from hstmap.aws.session import AwsSession
    from hstmap.aws.settings import aws_settings

    section = {"runtime_timeout": 60, "runtime_memory": 1769, "max_workers": 3}
    config: dict[str, Any] = {"aws": {"region": "us-east-1"}, "aws_lambda": section}
    # The functions wait for storage more than they compute.
    options = LocalAwsOptions(retry_delays_s=(0.02, 0.03), n_cores=4.0)
    with tempfile.TemporaryDirectory() as scratch, LocalAws(options) as aws:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            del os.environ[name]
        os.environ.update(aws.environment)
        session = AwsSession("us-east-1")
        settings = aws_settings(config, session.account_id())
        list(deploy(session, settings, build_installed(Path(scratch))))
        backend = {"backend": "aws_lambda", "storage": "aws_s3", "monitoring_interval": 0.1}
        yield FaultBench(
            aws, config | {"lithops": backend, "aws_s3": {"storage_bucket": settings.bucket}}
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", type=int, default=200, metavar="N", help="runs, a seed each")
    parser.add_argument("--first-seed", type=int, default=0, metavar="N")
    parser.add_argument(
        "--limit", type=float, default=180.0, metavar="SECONDS", help="what counts as a hang"
    )


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    n_runs = 2 if arguments.short else arguments.runs
    records: dict[int, FaultyRun] = {}
    wrong = []
    with deployed_bench() as bench:
        for seed in range(arguments.first_seed, arguments.first_seed + n_runs):
            faulthandler.dump_traceback_later(arguments.limit, exit=True)
            faults, is_cold = draw_faults(seed)
            bench.aws.faults.reseed(seed)
            if is_cold:
                bench.end_environments()
            record = records[seed] = bench.run(faults)
            faulthandler.cancel_dump_traceback_later()
            if record.digest != bench.expected or sum(record.outcomes.values()) != N_IMAGES:
                wrong.append(seed)
            print(run_line(seed, record, is_right=seed not in wrong), flush=True)
    for line in report_lines(records, wrong):
        print(line)
    if wrong:
        raise SystemExit(f"another summary with the seeds {wrong}")
    return {"runs": {seed: asdict(record) for seed, record in records.items()}, "wrong": wrong}


def run_line(seed: int, record: FaultyRun, *, is_right: bool) -> str:
    fired = ", ".join(f"{kind} {n}" for kind, n in record.fired.items()) or "none"
    return (
        f"seed {seed:4d} {record.elapsed_s:6.1f} s {record.n_attempts:3d} attempts "
        f"{'same summary' if is_right else 'ANOTHER SUMMARY'}; {fired}"
    )


def report_lines(records: dict[int, FaultyRun], wrong: Sequence[int]) -> list[str]:
    """Sum up all runs."""
    times_s = sorted(record.elapsed_s for record in records.values())
    fired: Counter[str] = Counter()
    for record in records.values():
        fired.update(record.fired)
    n_attempts = sum(record.n_attempts for record in records.values())
    return [
        "",
        f"{len(records)} runs of {N_IMAGES} images, {len(wrong)} with another summary; "
        f"{times_s[len(times_s) // 2]:.1f} s at the median, {times_s[-1]:.1f} s the longest",
        f"{n_attempts} attempts, {fired.total()} faults:",
        *(f"  {kind:18s}{n:6d}" for kind, n in sorted(fired.items())),
    ]
