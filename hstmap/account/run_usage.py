"""What a simulated run uses beside its calls: requests of all who make them, and storage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from hstmap.account.run_assumptions import Assumptions, RunShape
from hstmap.account.run_profile import Profile
from hstmap.aws.usage import LOG_NBYTES_A_CALL, Call, Usage
from hstmap.storage_counts import RequestCounts

__all__ = [
    "N_GET_CALL",
    "N_PUT_CALL",
    "before_usage",
    "client_usage",
    "count_looks",
    "count_usage",
    "with_asked",
]

#: Of the engine, for each call: that it began and how it ended; and the client reads the latter.
N_PUT_CALL: Final = 2
N_GET_CALL: Final = 1
#: Names that the client finds when it looks, beside those of the calls under way: they are removed
#: when they are so many, so that it is half of them on average.
_MOST_LISTED: Final = 500
_LISTED_A_PAGE: Final = 1000
#: Of the client, before the plan of a new run: the run's record and the lines of an earlier bill,
#: which are not there; images, parts and twice the ledger are listed.
_N_GET_BEFORE: Final = 2
_N_LIST_BEFORE: Final = 4
#: To begin: record and plans are read; manifest and plan are written, of a new run its record, too.
_N_GET_BEGIN: Final = 2
_N_PUT_BEGIN: Final = 2
#: The ledger goes out in segments: the first when a call has begun, the last at the end.
_N_SEGMENTS: Final = 2
_LEDGER_SEGMENT_S: Final = 10.0
_LEDGER_NBYTES_A_CALL: Final = 2000
#: To merge: record and manifest are read, and of each part its end, then its columns; two tables,
#: the coverage and the merge's own ledger are written.
_N_GET_MERGE: Final = 2
_N_GET_PART: Final = 2
_N_PUT_MERGE: Final = 4
#: Files of an earlier summary, and such as wait for their place, are looked for.
_N_LIST_MERGE: Final = 2
#: What a cold start logs beside what each call does.
_LOG_NBYTES_START: Final = 320


def count_looks(map_s: float, n_calls: int, poll_s: float) -> int:
    """Count how often the client looks what has ended: each look is a listing.

    Parameters
    ----------
    map_s : float
        From sending the first calls until the last end is seen, s.
    n_calls : int
    poll_s : float
        Time between two looks, s; 0 for a client that looks when there is something to see.

    Returns
    -------
    int
        With the last one, that finds what is to be removed. `hstmap.bag.invocations` looks first
        an interval after the first calls were sent, then at each interval, whatever it finds.
    """
    return 1 + (math.ceil(round(map_s / poll_s, 6)) if poll_s else n_calls)


def before_usage(shape: RunShape) -> Usage:
    """Count what a map of a new run asks for before its plan is made.

    Parameters
    ----------
    shape : RunShape

    Returns
    -------
    Usage
        Where a map has asked already, `with_asked` puts what it was in the place of this.
    """
    n_pages = math.ceil(shape.n_images / _LISTED_A_PAGE)
    return Usage(n_get=_N_GET_BEFORE, n_list=_N_LIST_BEFORE - 1 + n_pages)


def with_asked(usage: Usage, shape: RunShape, asked: RequestCounts) -> Usage:
    """Put what was asked for before a plan in the place of what would have been expected.

    Parameters
    ----------
    usage : Usage
        With that of `before_usage`.
    shape : RunShape
    asked : RequestCounts

    Returns
    -------
    Usage
        An earlier run that is planned by, a pilot, what is done: all that has been read.
    """
    expected = before_usage(shape)
    return replace(
        usage,
        n_get=usage.n_get - expected.n_get + asked.n_get + asked.n_head,
        n_put=usage.n_put - expected.n_put + asked.n_put,
        n_list=usage.n_list - expected.n_list + asked.n_list,
    )


def client_usage(shape: RunShape, map_s: float) -> Usage:
    """Count the client's own requests: the run's record, its ledger, the merging of its parts.

    Parameters
    ----------
    shape : RunShape
    map_s : float

    Returns
    -------
    Usage
        As hstmap makes them, with those before the plan. A pilot's parts are merged by the map
        that comes after it.
    """
    n_segments = _N_SEGMENTS + math.floor(map_s / _LEDGER_SEGMENT_S)
    is_new = shape.n_parts_there == 0
    own = Usage(n_get=_N_GET_BEGIN, n_put=_N_PUT_BEGIN + is_new + n_segments)
    if not shape.is_pilot:
        n_parts = shape.n_calls + shape.n_parts_there
        own += Usage(
            n_get=_N_GET_MERGE + _N_GET_PART * n_parts,
            n_put=_N_PUT_MERGE,
            n_list=math.ceil(n_parts / _LISTED_A_PAGE) + _N_LIST_MERGE,
        )
    return before_usage(shape) + own


def count_usage(
    shape: RunShape,
    profile: Profile,
    calls: Sequence[Call],
    n_requests: tuple[int, int],
    map_s: float,
    assumptions: Assumptions,
) -> Usage:
    """Put what workers do, what their calls take beside it, and what is stored together.

    Parameters
    ----------
    shape : RunShape
    profile : Profile
    calls : sequence of Call
    n_requests : (int, int)
        GETs and PUTs of the workers, for images and results.
    map_s : float
    assumptions : Assumptions

    Returns
    -------
    Usage
    """
    n_calls = sum(call.n for call in calls)
    n_environments = min(shape.n_workers, n_calls)
    n_listed = n_environments + min(2 * n_calls, _MOST_LISTED) // 2
    n_pages = max(1, math.ceil(n_listed / _LISTED_A_PAGE))
    stored = shape.n_images * (profile.part_nbytes_image + profile.merged_nbytes_image)
    if shape.catalogs != "none":
        stored += shape.n_images * profile.catalog_nbytes_image
    return Usage(
        calls=tuple(calls),
        # What calls do is one object, which each environment gets once; and what Lithops knows of
        # the function is another, for the client.
        n_get=n_requests[0] + N_GET_CALL * n_calls + n_environments + 1,
        n_put=n_requests[1] + N_PUT_CALL * n_calls + 1,
        n_list=n_pages * count_looks(map_s, n_calls, assumptions.poll_s),
        log_nbytes=LOG_NBYTES_A_CALL * n_calls
        + _LOG_NBYTES_START * sum(call.n for call in calls if call.init_ms),
        stored_nbytes=round(stored + _LEDGER_NBYTES_A_CALL * n_calls),
    )
