"""What manifests, updates and fetches say of themselves, as lines of text."""

from __future__ import annotations

from collections.abc import Iterable

from hstmap.archive.build import ManifestUpdate, use_counts
from hstmap.archive.fetch import FetchOptions, FetchReport
from hstmap.archive.fetch_plan import GIB, FetchPlan
from hstmap.archive.manifest import Manifest
from hstmap.archive.use import REASONS

__all__ = [
    "fetch_lines",
    "manifest_lines",
    "plan_lines",
    "trouble_lines",
    "update_lines",
]

_N_NAMED = 5


def manifest_lines(manifest: Manifest) -> list[str]:
    """Say how many images there are, how many for use, and why the others are not.

    Parameters
    ----------
    manifest : Manifest
        Any; what it does not know is not said.

    Returns
    -------
    list of str
    """
    counts = use_counts(manifest)
    n_for_use = counts.pop("")
    lines = [f"{len(manifest):,} images, {n_for_use:,} for use"]
    for reason, count in counts.items():
        lines.append(f"{count:>9,}  {reason}: {REASONS.get(reason, 'as the manifest says')}")
    said = manifest.provenance
    if "n_counted" in said:
        lines.append(f"the archive counted {said['n_counted']:,} rows, {said['n_received']:,} came")
    if "verified" in said:
        lines.append(
            f"keys held against a listing: {said['n_found']:,} found, {said['n_missing']:,} "
            f"missing, {said['n_forbidden']:,} forbidden"
        )
    lines.append(f"content {manifest.content_hash[:16]}")
    return lines


def update_lines(update: ManifestUpdate) -> list[str]:
    """Say what an update changed, with the names of the first few of each kind."""
    lines = [f"asked for {update.n_asked:,} rows"]
    lines += _named("new", update.added)
    lines += _named("gone", update.removed)
    lines += _named("changed", [f"{n} ({', '.join(c)})" for n, c in update.changed.items()])
    return lines if len(lines) > 1 else [*lines, "nothing changed"]


def plan_lines(plan: FetchPlan, usd_per_gib: float, options: FetchOptions) -> list[str]:
    """Say what a fetch will bring, and what that costs outside the bucket's region."""
    lines = [f"{len(plan.files):,} files to fetch, {plan.n_there:,} there already"]
    if plan.n_unused:
        lines[0] += f", {plan.n_unused:,} images not for use and left"
    n_requests = plan.n_requests(options.piece_nbytes)
    cost = plan.egress_usd(usd_per_gib)
    if plan.nbytes is None or n_requests is None or cost is None:
        n_unknown = sum(file.nbytes is None for file in plan.files)
        return [*lines, f"the sizes of {n_unknown:,} of them are not known"]
    return [
        *lines,
        f"{plan.nbytes / GIB:.2f} GiB in {n_requests:,} requests"
        + (f", after {plan.n_listed:,} to list their sizes" if plan.n_listed else ""),
        f"${cost:.2f} of egress outside the bucket's region, at ${usd_per_gib:g} a GiB; none in it",
    ]


def fetch_lines(report: FetchReport) -> list[str]:
    """Say what a fetch has brought, and name the first few of what did not come."""
    speed = report.nbytes / report.seconds / 1e6 if report.seconds else 0.0
    lines = [
        f"{report.counts.get('fetched', 0):,} files, {report.nbytes / GIB:.2f} GiB in "
        f"{report.seconds:.1f} s ({speed:.0f} MB/s), {report.requests.n_get:,} requests"
    ]
    for status in ("missing", "forbidden", "failed"):
        names = [o.file.url for o in report.outcomes if o.status == status]
        lines += _named(status, names)
    other = [o.file.path.name for o in report.outcomes if o.status == "fetched" and o.message]
    return lines + _named("fetched in another version than the manifest's", other)


def trouble_lines(report: FetchReport) -> list[str]:
    """Return one line for each file that did not come, with what was wrong."""
    return [f"{o.file.url}: {o.message}" for o in report.outcomes if o.status != "fetched"]


def _named(what: str, names: Iterable[str]) -> list[str]:
    listed = list(names)
    if not listed:
        return []
    more = f" and {len(listed) - _N_NAMED:,} more" if len(listed) > _N_NAMED else ""
    return [f"{len(listed):,} {what}: {', '.join(listed[:_N_NAMED])}{more}"]
