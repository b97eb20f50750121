"""A small archive of simulated subarrays and of what goes wrong with files, made once."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

from hstmap.wfc3.simulate import simulate_flt
from hstmap.wfc3.simulate_scene import scene

SIDE = 128


@functools.cache
def small_flt(number: int, filter_name: str = "F160W") -> bytes:
    """The bytes of a simulated 128 x 128 subarray."""
    parameters = dataclasses.replace(
        scene("normal"), subarray=SIDE, seed=number, filter_name=filter_name
    )
    return simulate_flt(parameters, f"isim{number:02d}a1q").content


def write_archive(folder: Path, n_images: int = 5) -> list[str]:
    """Write good images, alternately F160W and F125W; return their rootnames."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"isim{number:02d}a1q" for number in range(1, n_images + 1)]
    for number, name in enumerate(names, start=1):
        content = small_flt(number, "F160W" if number % 2 else "F125W")
        (folder / f"{name}_flt.fits").write_bytes(content)
    return names


def write_broken_files(folder: Path) -> dict[str, str]:
    """Write files that are no images; return the outcome that each must have, by rootname."""
    folder.mkdir(parents=True, exist_ok=True)
    good = small_flt(1)
    (folder / "ibad01a1q_flt.fits").write_bytes(b"")
    (folder / "ibad02a1q_flt.fits").write_bytes(good[: len(good) // 3])
    (folder / "ibad03a1q_flt.fits").write_bytes(b"this is not FITS" * 500)
    grism = good.replace(b"FILTER  = 'F160W", b"FILTER  = 'G141 ")
    (folder / "ibad04a1q_flt.fits").write_bytes(grism)
    return {
        "ibad01a1q": "failed",
        "ibad02a1q": "failed",
        "ibad03a1q": "failed",
        "ibad04a1q": "rejected",
    }
