"""The IR detector: its lasting defects, and what noise and cosmic rays make of a clean frame."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hstmap.wfc3.simulate_instrument import (
    DARK_E_S,
    DETECTOR_SIZE,
    FULL_WELL_E,
    ramp_read_noise_e,
    subarray_offset,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    from hstmap.wfc3.simulate_scene import SceneParameters

    FloatArray = npt.NDArray[np.float64]

__all__ = ["DQ", "Defects", "Exposure", "defects", "expose"]

_DETECTOR_SEED = 20090514  # The defects are the detector's: the same in every frame.
_ZERO_READ_S = 2.912  # From the reset to the zeroth read of a full frame (SAMPZERO).
_FIRST_READ_S = 2 * 2.932  # From the reset to the first read after it.
_ZERO_READ_LIMIT_E = 300.0  # Signal in the first read that calwf3 takes note of.


class DQ:
    """Bits that a simulated frame can have, of those that `hstmap.wfc3.dq.DQ_BITS` explains."""

    DEAD = 4
    HOT = 16
    UNSTABLE = 32
    WARM = 64
    BAD_REFERENCE = 128
    SATURATED = 256
    BLOB = 512
    ZERO_READ_SIGNAL = 2048
    COSMIC_RAY_DRIZZLE = 4096
    COSMIC_RAY_RAMP = 8192


@dataclass(frozen=True, eq=False)
class Defects:
    """What is wrong with the detector, pixel by pixel.

    Attributes
    ----------
    dq : ndarray of int16, shape (size, size)
        Bits of the lasting defects.
    dark_e_s : ndarray of float64, shape (size, size)
        Dark current in e-/s.
    response : ndarray of float64, shape (size, size)
        Sensitivity; below 1 under a blob, 0 for a dead pixel.
    spike_e_s : ndarray of float64, shape (size, size)
        What a calibrated frame wrongly shows in hot pixels and in half of the dead ones, e-/s.
    """

    dq: npt.NDArray[np.int16]
    dark_e_s: FloatArray
    response: FloatArray
    spike_e_s: FloatArray

    def cut(self, size: int) -> Defects:
        """Return the defects of a centred subarray."""
        first = subarray_offset(size)
        part = np.s_[first : first + size, first : first + size]
        return Defects(
            self.dq[part], self.dark_e_s[part], self.response[part], self.spike_e_s[part]
        )


@functools.lru_cache(maxsize=4)
def defects(bad_pixels: bool, blobs: bool) -> Defects:
    """Make the defects of the whole detector: the same ones whenever it is called.

    Parameters
    ----------
    bad_pixels : bool
        Hot, warm, dead and unstable pixels, and bad reference ones, in the shares of real frames.
    blobs : bool
        Round shadows of particles on the channel's mirror (Pirzkal et al. 2010, WFC3 ISR 2010-06).
    """
    generator = np.random.default_rng(_DETECTOR_SEED)
    shape = (DETECTOR_SIZE, DETECTOR_SIZE)
    made = Defects(
        np.zeros(shape, np.int16), np.full(shape, DARK_E_S), np.ones(shape), np.zeros(shape)
    )
    if bad_pixels:
        _spoil_pixels(made, generator)
    if blobs:
        _add_blobs(made, generator)
    for array in (made.dq, made.dark_e_s, made.response, made.spike_e_s):
        array.flags.writeable = False
    return made


def _spoil_pixels(made: Defects, generator: np.random.Generator) -> None:
    lot = generator.uniform(0.0, 1.0, made.dq.shape)
    row, column = np.ogrid[:DETECTOR_SIZE, :DETECTOR_SIZE]
    # The "death star": a round patch without response that every frame shows.
    patch = np.hypot(column - 357.0, row - 54.0) < 26.0
    # And a crowd of bad pixels in the lower right corner.
    corner = np.hypot(column - 1013.0, row) / 45.0
    crowd = generator.uniform(0.0, 1.0, lot.shape) < 0.6 * np.exp(-(corner**2))
    dead = (lot < 0.008) | patch | crowd
    hot = (lot >= 0.004) & (lot < 0.020) & ~patch
    warm = (lot >= 0.020) & (lot < 0.035)
    unstable = (lot >= 0.035) & (lot < 0.050)
    reference = (lot >= 0.050) & (lot < 0.0505)
    kinds = (
        (dead, DQ.DEAD),
        (hot, DQ.HOT),
        (warm, DQ.WARM),
        (unstable, DQ.UNSTABLE),
        (reference, DQ.BAD_REFERENCE),
    )
    for where, bit in kinds:
        made.dq[where] |= bit
    made.response[dead] = 0.0
    made.dark_e_s[warm] += generator.uniform(0.05, 0.4, int(warm.sum()))
    wild = hot | (dead & (generator.uniform(0.0, 1.0, dead.shape) < 0.5) & ~patch) | reference
    made.spike_e_s[wild] = np.exp(generator.normal(math.log(12.0), 1.1, int(wild.sum())))


def _add_blobs(made: Defects, generator: np.random.Generator) -> None:
    # Most blobs lie in the upper half of the detector.
    centres = generator.uniform((0.0, 250.0), (DETECTOR_SIZE, DETECTOR_SIZE), (36, 2))
    for x, y in centres:
        radius, depth = generator.uniform(5.0, 12.0), generator.uniform(0.03, 0.10)
        left, low = max(int(x - 3.0 * radius), 0), max(int(y - 3.0 * radius), 0)
        part = np.s_[low : int(y + 3.0 * radius), left : int(x + 3.0 * radius)]
        row, column = np.indices(made.dq[part].shape)
        distance = np.hypot(left + column - x, low + row - y)
        made.response[part] *= 1.0 - depth * np.exp(-0.5 * (distance / (0.6 * radius)) ** 2)
        made.dq[part][distance < radius] |= DQ.BLOB


@dataclass(frozen=True, eq=False)
class Exposure:
    """The calibrated planes of a frame, in e-/s, and its DQ bits; shape (size, size)."""

    sci: npt.NDArray[np.float32]
    err: npt.NDArray[np.float32]
    dq: npt.NDArray[np.int16]


def expose(
    light_e_s: FloatArray, parameters: SceneParameters, generator: np.random.Generator
) -> Exposure:
    """Expose the detector to the light of a field and calibrate the result.

    ERR is what calwf3 writes: the root of read noise, of the dark current and of all light that
    was counted, the sources' included.

    Parameters
    ----------
    light_e_s : ndarray of float64, shape (size, size)
        Sources and background in e-/s/pixel, flat-fielded.
    parameters : SceneParameters
        Exposure time, samples, and what can go wrong.
    generator : numpy.random.Generator
        Draws the noise.

    Returns
    -------
    Exposure
    """
    detector = defects(parameters.bad_pixels, parameters.blobs).cut(len(light_e_s))
    exposure_s = parameters.exposure_s
    read_noise = ramp_read_noise_e(parameters.n_samples)
    dq = detector.dq.copy()
    light = light_e_s * detector.response
    dq[light * _ZERO_READ_S > _ZERO_READ_LIMIT_E] |= DQ.ZERO_READ_SIGNAL
    # The ramp is fitted to the reads before saturation, and an FLT does not tell which pixels
    # reached it; but those that were full by the first read have no ramp, and are flagged.
    dq[light * _FIRST_READ_S > FULL_WELL_E] |= DQ.SATURATED
    light = np.minimum(light, FULL_WELL_E / _FIRST_READ_S)
    rate = light + detector.dark_e_s
    fitted_s = np.minimum(exposure_s, FULL_WELL_E / rate)
    electrons = rate * fitted_s
    if parameters.noise:
        electrons = generator.poisson(electrons) + generator.normal(0.0, read_noise, rate.shape)
        unstable = (dq & DQ.UNSTABLE) != 0
        electrons[unstable] += generator.normal(0.0, read_noise, int(unstable.sum()))
    err = np.sqrt(np.maximum(electrons, 0.0) + read_noise**2) / fitted_s
    sci = electrons / fitted_s - detector.dark_e_s
    spikes = detector.spike_e_s > 0
    sci[spikes] += detector.spike_e_s[spikes]
    if parameters.noise:
        _add_cosmic_rays((sci, err, dq), parameters, generator)
    return Exposure(sci.astype(np.float32), err.astype(np.float32), dq)


def _add_cosmic_rays(
    planes: tuple[FloatArray, FloatArray, npt.NDArray[np.int16]],
    parameters: SceneParameters,
    generator: np.random.Generator,
) -> None:
    """Draw tracks of cosmic rays into the planes.

    calwf3 finds nearly all of them by the jump they make in a ramp: the pixel is flagged 8192 and
    the fit goes on without the jump, from fewer reads. One in eight spoils the pixel, and is then
    found when the frames of a visit are compared (4096). The residue is in the frame, unflagged.
    """
    sci, err, dq = planes
    size = len(sci)
    share = (size / DETECTOR_SIZE) ** 2
    n_hits = generator.poisson(parameters.cosmic_ray_rate * parameters.exposure_s * share)
    n_pixels = 1 + generator.geometric(0.6, n_hits)
    hit = np.repeat(np.arange(n_hits), n_pixels)
    along = np.arange(len(hit)) - np.repeat(np.cumsum(n_pixels) - n_pixels, n_pixels)
    start = generator.uniform(0.0, size, (2, n_hits))
    angle = generator.uniform(0.0, 2.0 * math.pi, n_hits)
    column = np.floor(start[0, hit] + along * np.cos(angle)[hit]).astype(np.int64)
    row = np.floor(start[1, hit] + along * np.sin(angle)[hit]).astype(np.int64)
    inside = (column >= 0) & (column < size) & (row >= 0) & (row < size)
    hit, row, column = hit[inside], row[inside], column[inside]
    electrons = np.exp(generator.normal(math.log(600.0), 0.9, n_hits))[hit]
    fate = generator.uniform(0.0, 1.0, n_hits)[hit]
    missed = fate < parameters.cosmic_ray_residue
    spoiled = ~missed & (fate > 1.0 - 1.0 / 8.0)
    fitted = ~missed & ~spoiled
    dq[row[~missed], column[~missed]] |= DQ.COSMIC_RAY_RAMP
    dq[row[spoiled], column[spoiled]] |= DQ.COSMIC_RAY_DRIZZLE
    kept = missed | spoiled
    np.add.at(sci, (row[kept], column[kept]), electrons[kept] / parameters.exposure_s)
    # Half of the reads are left on average: the error grows, and the value scatters by as much.
    extra = err[row[fitted], column[fitted]]
    sci[row[fitted], column[fitted]] += generator.normal(0.0, 0.75 * extra)
    err[row[fitted], column[fitted]] = 1.25 * extra
