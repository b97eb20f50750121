"""What a simulated run uses beside its calls: requests of all who make them, and storage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from hstmap.account.run_assumptions import Assumptions, RunShape
from hstmap.account.run_profile import Profile
from hstmap.aws.usage import LOG_NBYTES_A_CALL, Call, Usage

__all__ = ["N_GET_CALL", "N_PUT_CALL", "client_merge_s", "client_usage", "count_usage"]

#: Of the engine, for each call: that it began and how it ended; and the client reads the latter.
N_PUT_CALL: Final = 2
N_GET_CALL: Final = 1
#: Names that the client finds when it looks, beside those of the calls under way.
_MOST_LISTED: Final = 1000
_LISTED_A_PAGE: Final = 1000
#: Of the client: finding the images; the run's record, manifest and plan, looked for and written;
#: the summary. Its ledger goes out in segments.
_N_GET_CLIENT: Final = 6
_N_PUT_CLIENT: Final = 8
_N_LIST_CLIENT: Final = 3
#: Merging reads the end of each part, and its columns.
_N_GET_PART: Final = 2
#: After a pilot what is done is read again, and what it took.
_N_GET_PILOT: Final = 9
_N_PUT_PILOT: Final = 3
_N_LIST_PILOT: Final = 5
_N_GET_PILOT_PART: Final = 4
_LEDGER_SEGMENT_S: Final = 10.0
#: What a cold start logs beside what each call does.
_LOG_NBYTES_START: Final = 320


def client_merge_s(n_images: int, profile: Profile, assumptions: Assumptions) -> float:
    """Say how long a client in the region takes to merge the parts.

    Parameters
    ----------
    n_images : int
    profile : Profile
    assumptions : Assumptions

    Returns
    -------
    float
        Seconds.
    """
    transfer_s = profile.part_nbytes_image / assumptions.bandwidth_nbytes_s
    return n_images * (transfer_s + profile.reduce_s_image)


def client_usage(shape: RunShape, map_s: float) -> Usage:
    """Count the client's own requests: the run's record, its ledger, the merging of its parts.

    Parameters
    ----------
    shape : RunShape
    map_s : float

    Returns
    -------
    Usage
        As hstmap makes them; finding the images is not among them.
    """
    n_pages = math.ceil(shape.n_calls / _LISTED_A_PAGE)
    n_segments = 1 + math.floor(map_s / _LEDGER_SEGMENT_S)
    if shape.is_pilot:
        return Usage(
            n_get=_N_GET_PILOT + _N_GET_PILOT_PART * shape.n_calls,
            n_put=_N_PUT_PILOT + n_segments,
            n_list=_N_LIST_PILOT + n_pages,
        )
    return Usage(
        n_get=_N_GET_CLIENT + _N_GET_PART * shape.n_calls,
        n_put=_N_PUT_CLIENT + n_segments,
        n_list=_N_LIST_CLIENT + n_pages,
    )


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
    n_looks = 1 + n_calls
    if assumptions.poll_s:
        n_pauses = math.ceil(map_s / (assumptions.poll_s + assumptions.first_byte_s))
        # Who finds that calls began or ended looks again at once, and pauses only then. Of as many
        # pauses those have news that would have some if starts and ends came at any time.
        n_news = -n_pauses * math.expm1(-2 * n_calls / n_pauses) if n_pauses else 0.0
        n_looks = 1 + n_pauses + math.ceil(n_news)
    n_listed = n_environments + min(2 * n_calls, _MOST_LISTED)
    stored = shape.n_images * 2 * profile.part_nbytes_image  # in parts and in the summary
    if shape.catalogs != "none":
        stored += shape.n_images * profile.catalog_nbytes_image
    return Usage(
        calls=tuple(calls),
        # What calls do is one object, which each environment gets once; and what Lithops knows of
        # the function is another, for the client.
        n_get=n_requests[0] + N_GET_CALL * n_calls + n_environments + 1,
        n_put=n_requests[1] + N_PUT_CALL * n_calls + 1,
        n_list=n_looks * math.ceil(n_listed / _LISTED_A_PAGE),
        log_nbytes=LOG_NBYTES_A_CALL * n_calls
        + _LOG_NBYTES_START * sum(call.n for call in calls if call.init_ms),
        stored_nbytes=round(stored),
    )
