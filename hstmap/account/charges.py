"""What a call of a run can cost at most, and did: never less than Lambda will bill.

Nobody is told while a run goes on what Lambda bills. So a call in flight is charged for its time
limit; and once its worker has told how long it took, for that, with an allowance for what the
worker's clock does not see. A call of which nothing was heard (it was lost, overtaken by its twin,
timed out, or under way when the client ended) may have gone on to its time limit, so that stays
charged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from hstmap.account.costs import LambdaShape
from hstmap.aws.price_table import PriceTable
from hstmap.aws.usage import LOG_NBYTES_A_CALL
from hstmap.bag.task import Attempt
from hstmap.storage_backend import PART_NBYTES

__all__ = ["CallTerms", "CallWork"]

#: Lambda ends an INIT that takes longer.
#: https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
_INIT_LIMIT_S: Final = 10.0
#: A worker ends a call at its time limit, rounded up to a second, and then has 3 s for last words
#: and 1 s to part (`hstmap.aws.calls`); 1 s more for its forks.
_GRACE_S: Final = 6.0
#: What a worker's clock does not see of a call: the PUT of its last word, 1 s at most for its
#: process to end, the answer. Nearly always it is far less, which makes up for the rare longer PUT.
_UNSEEN_S: Final = 0.5
#: And of an INIT: what came before its process.
_UNSEEN_INIT_S: Final = 0.5
#: Far more than any product of WFC3/IR takes.
_MOST_GETS_AN_IMAGE: Final = 8
#: A call's own for the engine: that it began, how it ended, a long value; function and argument.
_ENGINE_PUTS, _ENGINE_GETS = 3, 2
#: The client's for a call: function and argument; the call's end, and its value.
_CLIENT_PUTS, _CLIENT_GETS = 2, 2
#: What the client lists of each call, and a LIST gives at a time.
_KEYS_A_CALL, _KEYS_A_LIST = 3, 1000
_LEDGER_SEGMENT_S: Final = 10.0
#: The client's, to find out what is done and to write down what will be.
_BEGIN_GETS_A_PART, _BEGIN_PUTS, _BEGIN_LISTS = 2, 8, 4
#: The reduce's, for each part and for all.
_REDUCE_GETS, _REDUCE_PUTS = 4, 8
_GB: Final = 1e9
_MB_A_GB: Final = 1024


@dataclass(frozen=True)
class CallWork:
    """The most that a call of a run does.

    Attributes
    ----------
    n_images : int
    n_files : int
        Objects that it writes.
    attempt_s : float
        Time after which a worker ends it, s.
    function_s : float
        Time after which Lambda ends it, whatever the worker does, s.
    looks_s : float
        Time between two looks of the client at what has ended, s.
    """

    n_images: int
    n_files: int
    attempt_s: float
    function_s: float = 900.0
    looks_s: float = 2.0


@dataclass(frozen=True)
class CallTerms:
    """What the calls of a map can cost; kept in the ledger, so that later maps can reckon.

    Attributes
    ----------
    second_usd : float
        Of the function, at its memory.
    call_usd : float
        Of any call: its request, its log, and what the client asks for on its behalf.
    get_usd, put_usd, list_usd : float
    limit_s : float
        Longest duration of a call, INIT not included, s.
    n_get, n_put : int
        Most requests of a call to S3.
    looks_s : float
        As in `CallWork`.
    """

    second_usd: float
    call_usd: float
    get_usd: float
    put_usd: float
    list_usd: float
    limit_s: float
    n_get: int
    n_put: int
    looks_s: float

    @classmethod
    def of(cls, shape: LambdaShape, prices: PriceTable, work: CallWork) -> CallTerms:
        """Put the prices of a function to the work of its calls.

        Parameters
        ----------
        shape : LambdaShape
        prices : PriceTable
        work : CallWork

        Returns
        -------
        CallTerms
        """
        usd_gb_s = prices.lambda_gb_s_usd[shape.architecture]
        client_usd = _CLIENT_PUTS * prices.s3_put_usd + _CLIENT_GETS * prices.s3_get_usd
        log_usd = LOG_NBYTES_A_CALL / _GB * prices.logs_gb_usd
        return cls(
            second_usd=usd_gb_s * shape.memory_mb / _MB_A_GB,
            call_usd=prices.lambda_request_usd + log_usd + client_usd,
            get_usd=prices.s3_get_usd,
            put_usd=prices.s3_put_usd,
            list_usd=prices.s3_list_usd,
            limit_s=min(work.function_s, math.ceil(work.attempt_s) + _GRACE_S),
            n_get=work.n_images * _MOST_GETS_AN_IMAGE + _ENGINE_GETS,
            n_put=work.n_files + _ENGINE_PUTS,
            looks_s=work.looks_s,
        )

    @property
    def most_s(self) -> float:
        """Longest time that a call is billed for, s."""
        return _INIT_LIMIT_S + self.limit_s

    @property
    def most_usd(self) -> float:
        """Most that a call costs."""
        return self._usd(self.most_s) + self._requests_usd(None)

    def charge_usd(self, attempt: Attempt, submitted_s: float, seen_s: float) -> float:
        """Say what an attempt that ended costs at most.

        Parameters
        ----------
        attempt : Attempt
        submitted_s, seen_s : float
            When it was sent and when its end was known, by the client's clock, s.

        Returns
        -------
        float
            US dollars; nothing if it was never sent.
        """
        if attempt.status == "unpicklable" and attempt.started_s is None:
            return 0.0
        if not _was_heard(attempt):
            return self.most_usd
        # All of it lies between the sending and the seeing, but for what came after its last word.
        seconds = min(max(0.0, seen_s - submitted_s) + _UNSEEN_S, _by_worker_s(attempt))
        if math.isinf(_by_worker_s(attempt)):
            seconds = min(seconds, self.most_s)
        return self._usd(seconds) + self._requests_usd(attempt)

    def billed_usd(self, attempt: Attempt, billed_ms: int) -> float:
        """Say what an attempt costs whose REPORT lines were read.

        Parameters
        ----------
        attempt : Attempt
        billed_ms : int
            That they say, ms.

        Returns
        -------
        float
            US dollars.
        """
        return billed_ms / 1000 * self.second_usd + self._requests_usd(attempt)

    def client_usd(self, seconds: float, n_calls: int) -> float:
        """Say what the client's looks and ledger cost.

        Parameters
        ----------
        seconds : float
            How long it looks, s.
        n_calls : int
            Calls that it has sent.

        Returns
        -------
        float
            US dollars.
        """
        n_pages = 1 + _KEYS_A_CALL * n_calls // _KEYS_A_LIST
        looks_usd = n_pages * self.list_usd / self.looks_s
        return (looks_usd + self.put_usd / _LEDGER_SEGMENT_S) * seconds

    def begin_usd(self, n_images: int, n_parts: int) -> float:
        """Say what a map costs before its first call: requests of the client.

        Parameters
        ----------
        n_images : int
            That are listed.
        n_parts : int
            Whose images are done.

        Returns
        -------
        float
            US dollars.
        """
        n_list = _BEGIN_LISTS + (n_images + n_parts) // _KEYS_A_LIST
        n_get = _BEGIN_GETS_A_PART * n_parts
        return n_get * self.get_usd + _BEGIN_PUTS * self.put_usd + n_list * self.list_usd

    def reduce_usd(self, n_parts: int, nbytes: float) -> float:
        """Say what merging parts costs: requests of the client.

        Parameters
        ----------
        n_parts : int
        nbytes : float
            Of the summary.

        Returns
        -------
        float
            US dollars.
        """
        n_put = _REDUCE_PUTS + math.ceil(nbytes / PART_NBYTES)
        n_list = 1 + n_parts // _KEYS_A_LIST
        n_get = _REDUCE_GETS * n_parts
        return n_get * self.get_usd + n_put * self.put_usd + n_list * self.list_usd

    def _usd(self, seconds: float) -> float:
        # Billed are whole milliseconds.
        return math.ceil(seconds * 1000) / 1000 * self.second_usd

    def _requests_usd(self, attempt: Attempt | None) -> float:
        """Charge the requests that an attempt told of, else the most that it can make."""
        n_get, n_put, n_list = self.n_get, self.n_put, 0
        if attempt is not None and attempt.requests is not None:
            total = attempt.requests.work + attempt.requests.engine
            n_get, n_put, n_list = total.n_get + total.n_head, total.n_put, total.n_list
        requests_usd = n_get * self.get_usd + n_put * self.put_usd + n_list * self.list_usd
        return self.call_usd + requests_usd


def _was_heard(attempt: Attempt) -> bool:
    """Tell whether a worker said that it ended."""
    return attempt.status in ("ok", "error", "unpicklable") or attempt.requests is not None


def _by_worker_s(attempt: Attempt) -> float:
    """Say how long a call was by the worker's clock, with what that does not see; s."""
    if attempt.handler_s is not None:
        seconds = attempt.handler_s
    elif attempt.worker is not None and attempt.started_s is not None:
        seconds = attempt.ended_s - attempt.started_s
    else:
        return math.inf
    init_s = 0.0
    if attempt.init_s is not None:
        init_s = attempt.init_s + _UNSEEN_INIT_S
    elif attempt.worker is not None and attempt.worker.cold:
        init_s = _INIT_LIMIT_S
    return seconds + _UNSEEN_S + init_s
