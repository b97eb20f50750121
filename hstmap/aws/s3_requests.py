"""Requests that boto3 makes to S3, counted as Amazon does: each that is sent, its repeats too.

For clients that others make: Lithops' storage is one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from hstmap.storage_counts import RequestCounts

__all__ = ["kind_of_operation", "storage_requests"]

_EVENT: Final = "response-received.s3"
_SERVER_ERROR: Final = 500


def kind_of_operation(operation: str) -> str:
    """Say as what S3 charges an operation.

    Parameters
    ----------
    operation : str
        Such as ``"ListObjectsV2"``.

    Returns
    -------
    str
        The field of `RequestCounts`: ``"n_get"``, ``"n_head"``, ``"n_list"``, ``"n_delete"`` (free,
        and so is a batch of them), or ``"n_put"``, as which all others are charged [1]_.

    References
    ----------
    .. [1] https://aws.amazon.com/s3/pricing/, "Requests & data retrievals".
    """
    for verb in ("Get", "Head", "List", "Delete"):
        if operation.startswith(verb):
            return f"n_{verb.lower()}"
    return "n_delete" if operation == "AbortMultipartUpload" else "n_put"


@contextmanager
def storage_requests() -> Iterator[RequestCounts]:
    """Count what S3 clients of sessions ask for that are made in a block, as long as they live.

    Yields
    ------
    RequestCounts
        Grows with every answer. 5xx answers are not charged, and not counted; a request without
        an answer is counted, as S3 may have served it.
    """
    import botocore

    counts = RequestCounts()
    counting = threading.Lock()

    def note(event_name: str, response_dict: Mapping[str, Any] | None, **_more: Any) -> None:
        if response_dict is not None and response_dict["status_code"] >= _SERVER_ERROR:
            return
        kind = kind_of_operation(event_name.rpartition(".")[2])
        one = RequestCounts(**{kind: 1})
        if kind == "n_get" and response_dict is not None:
            one.nbytes_read = int(response_dict["headers"].get("content-length", 0))
        with counting:
            counts.__iadd__(one)

    def watch(session: Any) -> None:
        session.register(_EVENT, note)

    botocore.register_initializer(watch)
    try:
        yield counts
    finally:
        botocore.unregister_initializer(watch)
