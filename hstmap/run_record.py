"""What a run was made with, written down beside its results, and what it may go on with."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Final

import hstmap
from hstmap.archive.manifest import Manifest
from hstmap.batch import Catalogs, RunParameters
from hstmap.errors import MissingObjectError, RunMismatchError
from hstmap.parts import placed_images
from hstmap.storage import Store
from hstmap.summary_files import COVERAGE_FILE, IMAGES_FILE, SOURCES_FILE, SOURCES_PREFIX

__all__ = [
    "MANIFEST_KEY",
    "PLAN_KEY",
    "begin_run",
    "check_same_run",
    "delete_run",
    "done_images",
    "read_plans",
    "read_run_record",
]

MANIFEST_KEY: Final = "manifest.parquet"
PLAN_KEY: Final = "plan.json"
_RUN_KEY: Final = "run.json"
_SUMMARY_KEYS: Final = (IMAGES_FILE, SOURCES_FILE, COVERAGE_FILE)
# Not the ledger: what an earlier run did was done, and paid for.
_OWN_PREFIXES: Final = ("parts/", "catalogs/", SOURCES_PREFIX, "reduce/")


def _wanted(parameters: RunParameters, catalogs: Catalogs) -> dict[str, Any]:
    """Say what a run must have in common with the one that it goes on with."""
    return {
        "version": hstmap.__version__,
        "catalogs": catalogs,
        "parameters": parameters.as_dict(),
    }


def read_run_record(store: Store) -> dict[str, Any] | None:
    """Read what the run in a store was made with.

    Parameters
    ----------
    store : Store

    Returns
    -------
    dict or None
        With "version", "catalogs", "parameters" and "created"; None if there is no run.

    Raises
    ------
    RunMismatchError
        If there is something else under its name.
    """
    try:
        record = json.loads(store.get(_RUN_KEY))
    except MissingObjectError:
        return None
    except ValueError as error:
        raise RunMismatchError(
            f"{store.url}/{_RUN_KEY} is not readable as JSON ({error}); "
            "give another --out, or --overwrite to start afresh"
        ) from error
    return dict(record)


def check_same_run(
    store: Store, parameters: RunParameters, catalogs: Catalogs, manifest: Manifest
) -> None:
    """Refuse to mix the results of a run with what was made otherwise.

    Parameters
    ----------
    store : Store
        The run's.
    parameters : RunParameters
    catalogs : {"image", "batch", "none"}
        Which files hold the images' catalogues.
    manifest : Manifest
        It may have more images than the run had, and must have those.

    Raises
    ------
    RunMismatchError
        If there is a run of other parameters, another version, or of other images.
    """
    there = read_run_record(store)
    if there is None:
        return
    old, new = (
        {"version": record.get("version"), "catalogs": record.get("catalogs")}
        | record.get("parameters", {})
        for record in (there, _wanted(parameters, catalogs))
    )
    differing = [
        f"{name} is {old.get(name)!r} there and {new.get(name)!r} here"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]
    if differing:
        raise RunMismatchError(
            f"{store.url} holds a run that was made otherwise: {'; '.join(differing)}. "
            "Use the same options to go on, another --out, or --overwrite to start afresh"
        )
    _check_same_images(store, manifest)


def _check_same_images(store: Store, manifest: Manifest) -> None:
    """Refuse to go on with images that do not include those of the run."""
    if not store.exists(MANIFEST_KEY):
        return  # it was stopped before anything was done
    before = Manifest.read(f"{store.url}/{MANIFEST_KEY}")
    now = dict(zip(manifest.values("rootname"), manifest.urls, strict=True))
    gone = [
        url
        for name, url in zip(before.values("rootname"), before.urls, strict=True)
        if now.get(name) != url
    ]
    if gone:
        raise RunMismatchError(
            f"{store.url} holds a run of {len(before)} images, of which {len(gone)} are not among "
            f"the {len(now)} given now, for example {gone[0]}. "
            "Give at least the same images, another --out, or --overwrite to start afresh"
        )


def done_images(store: Store) -> dict[str, str]:
    """Say which images have an outcome, from the parts.

    Parameters
    ----------
    store : Store
        The run's.

    Returns
    -------
    dict of str to str
        Outcome by rootname.
    """
    return {name: image.row["outcome"] for name, image in placed_images(store).items()}


def begin_run(
    store: Store,
    parameters: RunParameters,
    catalogs: Catalogs,
    manifest: Manifest,
    plan: dict[str, Any],
) -> None:
    """Write down what is about to happen; shows at once whether the place can be written to.

    Parameters
    ----------
    store : Store
        The run's.
    parameters : RunParameters
    catalogs : {"image", "batch", "none"}
    manifest : Manifest
    plan : dict
        Kept in ``plan.json``, after those of earlier starts.
    """
    if read_run_record(store) is None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        store.put(_RUN_KEY, _as_json(_wanted(parameters, catalogs) | {"created": now}))
    manifest.write(f"{store.url}/{MANIFEST_KEY}")
    store.put(PLAN_KEY, _as_json({"plans": [*read_plans(store), plan]}))


def read_plans(store: Store) -> list[dict[str, Any]]:
    """Read what was planned, each time that a run was started or went on.

    Parameters
    ----------
    store : Store
        The run's.

    Returns
    -------
    list of dict
        The last one last; empty if there is nothing of the kind.
    """
    try:
        record = json.loads(store.get(PLAN_KEY))
    except (MissingObjectError, ValueError):
        return []
    plans = record.get("plans") if isinstance(record, dict) else None
    return [plan for plan in plans if isinstance(plan, dict)] if isinstance(plans, list) else []


def _as_json(record: dict[str, Any]) -> bytes:
    """Format a record for people and programs."""
    return (json.dumps(record, indent=2) + "\n").encode()


def delete_run(store: Store) -> None:
    """Delete what an earlier run left, and nothing else.

    Parameters
    ----------
    store : Store
        The run's.
    """
    for prefix in _OWN_PREFIXES:
        for info in list(store.list(prefix)):
            store.delete(info.key)
    for key in (*_SUMMARY_KEYS, MANIFEST_KEY, PLAN_KEY, _RUN_KEY):
        store.delete(key)
