"""The bound of throughput: SEP's calls on arrays in memory, in some processes, and nothing else.

What a server takes of the processors that it shares with them, and what having the bytes in memory
takes at the least, is in a second bound: the same calls, while bare sockets read as many objects.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.pool import Pool
from pathlib import Path

import numpy as np

from benchmarks.bare_reader import BareReader, Objects
from benchmarks.sep_calls import SepCalls, recorded
from hstmap.batch import RunParameters
from hstmap.wfc3.detect import detect
from hstmap.wfc3.image import read_image
from hstmap.wfc3.measure import measure
from hstmap.wfc3.noise import measure_empty_apertures

#: Images that a process takes at a time, and connections that it reads as many objects with: at
#: 75 MB/s they arrive in the time of three images, so that they come at the pace of the calls.
_CHUNK = 4

_calls: list[SepCalls] = []
_readers: dict[Objects, BareReader] = {}


def record_calls(frame: Path) -> SepCalls:
    """Measure a frame as a worker does, and keep the calls of SEP.

    Parameters
    ----------
    frame : Path
        An FLT file.

    Returns
    -------
    SepCalls

    Raises
    ------
    RuntimeError
        If the same calls find other sources when they are made again.
    """
    parameters = RunParameters()
    with frame.open("rb") as file:
        image = read_image(file, frame.name, parameters.read)
    with recorded() as calls:
        detection = detect(image, parameters.detection)
        measure(image, detection, parameters.measure)
        measure_empty_apertures(image.info, detection)
    if not np.array_equal(calls.replay(), calls.objects):
        raise RuntimeError(f"{frame.name}: the same calls found other sources")
    return calls


@dataclass(frozen=True)
class Bound:
    """Processes that have the arrays of some frames in memory."""

    pool: Pool

    def run(self, n_images: int, objects: Objects | None = None) -> tuple[float, float]:
        """Make the calls of so many images, which are the frames again and again.

        Parameters
        ----------
        n_images : int
        objects : Objects, optional
            What is read meanwhile, one an image; what comes is not looked at.

        Returns
        -------
        wall_s, cpu_s : float
            Seconds of the clock, and of the CPU of all processes.
        """
        starts = range(0, n_images, _CHUNK)
        chunks = [(range(i, min(i + _CHUNK, n_images)), objects) for i in starts]
        begun = time.perf_counter()
        cpu_s = sum(self.pool.imap_unordered(_replay, chunks))
        return time.perf_counter() - begun, cpu_s


@contextmanager
def bound_of(frames: Sequence[Path], n_processes: int) -> Iterator[Bound]:
    """Start the processes, which load the frames.

    Parameters
    ----------
    frames : sequence of Path
    n_processes : int

    Yields
    ------
    Bound
    """
    context = multiprocessing.get_context("spawn")
    with context.Pool(n_processes, _load, (list(frames),)) as pool:
        bound = Bound(pool)
        bound.run(2 * n_processes * _CHUNK)
        yield bound


def _load(frames: Sequence[Path]) -> None:
    _calls.extend(map(record_calls, frames))


def _replay(chunk: tuple[Sequence[int], Objects | None]) -> float:
    numbers, objects = chunk
    begun = time.process_time()
    arriving = [] if objects is None else [_reader(objects).start(number) for number in numbers]
    for number in numbers:
        _calls[number % len(_calls)].replay()
    for object_ in arriving:
        object_.result()
    return time.process_time() - begun


def _reader(objects: Objects) -> BareReader:
    if objects not in _readers:
        _readers[objects] = BareReader(objects, _CHUNK)
    return _readers[objects]
