"""Folders of many images to run on, made of a few frames, laid out by the archive's keys."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from hstmap.archive.keys import key_of
from hstmap.archive.manifest import Manifest
from hstmap.wfc3.simulate import simulate_flt
from hstmap.wfc3.simulate_scene import scene


def simulate_frames(folder: Path, n_frames: int, kind: str = "normal") -> list[Path]:
    """Write simulated FLT files of one kind of scene.

    Parameters
    ----------
    folder : Path
        An empty one, made if need be.
    n_frames : int
        With seeds from 1.
    kind : str
        Of the scene.

    Returns
    -------
    list of Path
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for seed in range(1, n_frames + 1):
        image = simulate_flt(dataclasses.replace(scene(kind), seed=seed), f"isim{seed:02d}a1q")
        paths.append(folder / image.filename)
        paths[-1].write_bytes(image.content)
    return paths


def rootname(number: int) -> str:
    """Name one image of many."""
    return f"i{number:06d}aq"


def lay_out(frames: Sequence[Path], folder: Path, n_images: int) -> list[Path]:
    """Link frames, one after another again and again, as so many images of an archive.

    Parameters
    ----------
    frames : sequence of Path
        FLT files.
    folder : Path
        Where the archive's keys begin.
    n_images : int

    Returns
    -------
    list of Path
        The links.
    """
    links = []
    for number in range(n_images):
        link = folder / key_of(rootname(number), "flt")
        link.parent.mkdir(parents=True)
        link.symlink_to(frames[number % len(frames)].resolve())
        links.append(link)
    return links


def manifest_of(n_images: int, store: str) -> Manifest:
    """List those images.

    Parameters
    ----------
    n_images : int
    store : str
        The folder of `lay_out`, or the bucket that shows it.

    Returns
    -------
    Manifest
    """
    names = [rootname(number) for number in range(n_images)]
    rows = [{"rootname": name, "key": key_of(name, "flt")} for name in names]
    return Manifest.from_rows(rows, store=store)
