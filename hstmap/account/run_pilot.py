"""A pilot: a few images of a run, done first, so that the plan of the rest rests on them."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from hstmap.archive.manifest import Manifest
from hstmap.batch import Batch, ImageKey
from hstmap.pipeline import RunPlan

__all__ = ["pilot_plan", "stratified"]

_N_BATCHES: Final = 4
_STEPS_A_DOUBLING: Final = 2


@dataclass(frozen=True, order=True)
class _Stratum:
    """What tells images apart before they were looked at; what is not known is empty, or -1."""

    filter: str
    exposure: int
    size: int


def stratified(images: Sequence[str], strata: Sequence[object], n: int, seed: int = 0) -> list[str]:
    """Draw images so that each stratum has its share.

    Parameters
    ----------
    images : sequence of str
        Names.
    strata : sequence
        Of each image; they can be sorted.
    n : int
        How many to draw.
    seed : int

    Returns
    -------
    list of str
        In the order of `images`. A stratum of which n images would have a share of x has floor(x)
        or ceil(x) of them. The same images, strata and seed give the same sample.

    Notes
    -----
    Systematic sampling from the sorted list (Cochran 1977, Sampling Techniques, chapter 8), whose
    order within a stratum is random.
    """
    n = min(n, len(images))
    if n == 0:
        return []
    draw = random.Random(f"pilot {seed}")
    order = list(range(len(images)))
    draw.shuffle(order)
    order.sort(key=lambda i: strata[i])  # type: ignore[arg-type,return-value]
    first = draw.random()
    chosen = {order[math.floor((first + k) * len(images) / n)] for k in range(n)}
    return [name for i, name in enumerate(images) if i in chosen]


def pilot_plan(
    plan: RunPlan, manifest: Manifest, n: int, batch_size: int, seed: int = 0
) -> RunPlan:
    """Plan a pilot: a stratified sample of what is still to be done.

    Parameters
    ----------
    plan : RunPlan
        Of all that is to be done.
    manifest : Manifest
        Its filters, exposure times and sizes of files make the strata, as far as it has them.
    n : int
        Images of the pilot.
    batch_size : int
        Of the rest; the pilot's is the same, or less so that it has several batches.
    seed : int

    Returns
    -------
    RunPlan
        A part of the same run.
    """
    todo = {image.rootname: image for batch in plan.batches for image in batch.images}
    strata = _strata(manifest)
    names = stratified(list(todo), [strata[name] for name in todo], n, seed)
    size = max(1, min(batch_size, math.ceil(len(names) / _N_BATCHES)))
    batches = tuple(
        _batch(plan, [todo[name] for name in names[i : i + size]])
        for i in range(0, len(names), size)
    )
    sizes = dict(_column(manifest, "nbytes"))
    return replace(
        plan,
        batches=batches,
        unused=(),
        nbytes=sum(sizes.get(name) or 0 for name in names),
        n_get=len(names),
        n_put=sum(batch.n_files for batch in batches),
    )


def _batch(plan: RunPlan, images: Sequence[ImageKey]) -> Batch:
    return replace(plan.batches[0], images=tuple(images))


def _column(manifest: Manifest, name: str) -> list[tuple[str, Any]]:
    """Read a column by the images' names; nothing if the manifest does not have it."""
    if name not in manifest.column_names:
        return []
    return list(zip(manifest.values("rootname"), manifest.values(name), strict=True))


def _strata(manifest: Manifest) -> dict[str, _Stratum]:
    """Say of each image by what is known of it which stratum it is of."""
    filters, exposures, sizes = (
        dict(_column(manifest, name)) for name in ("filter", "exposure_s", "nbytes")
    )
    return {
        name: _Stratum(
            str(filters.get(name) or ""), _step(exposures.get(name)), _step(sizes.get(name))
        )
        for name in manifest.values("rootname")
    }


def _step(value: object) -> int:
    """Put numbers that are alike together: steps of a factor of the root of two."""
    if not isinstance(value, int | float) or not value > 0:
        return -1
    return max(0, round(_STEPS_A_DOUBLING * math.log2(value)))
