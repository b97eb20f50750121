"""What Lambda calls: the entry point of the worker's package.

Lambda imports this module when it starts an execution environment (INIT), so what a worker needs
is imported here, once, where all calls and their forks find it.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from typing import Any, Final, Protocol

# Not used here: they are what unpickled functions will ask for.
import arro3.core
import arro3.io  # noqa: F401

import hstmap.bag.wire  # noqa: F401
from hstmap.aws.calls import Invocation, make_call, process_age_s, run_in_fork
from hstmap.aws.event import EVENT_KEY, CallEvent, runtime_facts
from hstmap.batch import Batch, ImageKey, RunParameters
from hstmap.errors import EngineError, UsageError
from hstmap.storage import open_store
from hstmap.wfc3.parameters import PRESETS
from hstmap.worker import make_catalog

__all__ = ["handle"]

_LOG: Final = logging.getLogger("hstmap")
_OF_2018: Final = frozenset({"fits_s3_key", "fits_s3_bucket", "s3_output_bucket"})
_LAST_WORDS_S: Final = 1.0

#: What came before this line was INIT.
_INIT_S: Final = process_age_s()
_is_cold = True


class LambdaContext(Protocol):
    """What the runtime gives beside an event."""

    aws_request_id: str

    def get_remaining_time_in_millis(self) -> int:
        """Return the time until Lambda ends the invocation."""


def handle(event: Mapping[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Do what an event asks for.

    Parameters
    ----------
    event : mapping
        A call of the engine's; ``{"runtime": true}``; an image as the function of 2018 was given
        it (``fits_s3_key``, ``fits_s3_bucket``, ``s3_output_bucket``); or a call of Lithops' own,
        where the package has Lithops.
    context : LambdaContext

    Returns
    -------
    dict
        What was done.

    Raises
    ------
    UsageError
        If the event is none of these.
    """
    global _is_cold  # noqa: PLW0603 - true once in the life of an execution environment
    started_s = time.time()
    invocation = Invocation(
        request_id=context.aws_request_id,
        is_cold=_is_cold,
        started_s=started_s,
        left_s=context.get_remaining_time_in_millis() / 1000,
        init_s=_INIT_S,
    )
    _is_cold = False
    if EVENT_KEY in event:
        call = CallEvent.from_dict(event)
        # Before all else: the bill finds by this line whose an invocation is that never answered.
        _LOG.info(json.dumps({"call": call.prefix}))
        end = make_call(call, invocation)
        if end.how != "done":
            told = {"ended": end.how, "requests": end.requests.as_dict()}
            _LOG.warning(json.dumps({"call": call.prefix, **told}))
        return {"call": call.prefix, "ended": end.how}
    if event.keys() >= _OF_2018:
        return _catalog_of_2018(event, invocation)
    if "runtime" in event:
        return dict(runtime_facts())
    if "lithops_version" in event or "get_metadata" in event:
        return _leave_to_lithops(event, context)
    raise UsageError(
        f"the event has {', '.join(sorted(event)) or 'nothing'}; expected a call of hstmap's, or "
        f"{', '.join(sorted(_OF_2018))}"
    )


# -- the event of 2018 -----------------------------------------------------------------------------


def _catalog_of_2018(event: Mapping[str, Any], invocation: Invocation) -> dict[str, Any]:
    """Catalogue one image with the parameters of the blog, under the key that it used.

    https://github.com/spacetelescope/astropy-sep-lambda
    """
    rootname = event["fits_s3_key"].rpartition("/")[2].partition("_")[0]
    key = f"{rootname}/{rootname}.catalog.fits"
    exit_code = run_in_fork(
        _write_catalog, (dict(event), rootname, key), invocation.left_s - _LAST_WORDS_S
    )
    if exit_code != 0:
        how = "took too long" if exit_code is None else "failed, see above"
        raise EngineError(f"{event['fits_s3_bucket']}/{event['fits_s3_key']}: {how}")
    return {"bucket": event["s3_output_bucket"], "key": key}


def _write_catalog(event: dict[str, str], rootname: str, key: str) -> None:
    url = f"s3://{event['fits_s3_bucket']}/{event['fits_s3_key']}"
    parameters = RunParameters(detection=PRESETS["blog"])
    out = f"s3://{event['s3_output_bucket']}"
    row, catalog = make_catalog(ImageKey(rootname, url), Batch((), out, parameters))
    if catalog is None:
        raise EngineError(f"{url} is {row['outcome']} ({row['reason']}): {row['message']}")
    open_store(out).put(key, catalog)


# -- Lithops' own calls ----------------------------------------------------------------------------


def _leave_to_lithops(event: Mapping[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Let Lithops' handler do what was sent through Lithops itself."""
    from importlib import import_module
    from importlib.util import find_spec

    if find_spec("lithops") is None:
        raise UsageError(
            "this call was sent through Lithops itself, and the runtime has no Lithops: send it "
            "through hstmap, or add Lithops to the function as a layer"
        )
    name = "lithops.serverless.backends.aws_lambda.entry_point"
    answer: dict[str, Any] = import_module(name).lambda_handler(dict(event), context)
    return answer
