"""Who may run now: the account's and the functions' concurrency, and the host's cores."""

from __future__ import annotations

import asyncio
import collections
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable

from hstmap.aws.local.api_error import too_many_requests
from hstmap.aws.local.functions import Function

__all__ = ["Concurrency", "CpuGate"]


class Concurrency:
    """How many invocations run at once, by function, against the account's limit.

    A function with reserved concurrency has that much to itself; the others share what the
    reserved ones leave [1]_.

    Parameters
    ----------
    limit : int
        The account's concurrency.
    functions : callable
        Returns all functions, for their reserved concurrency.

    References
    ----------
    .. [1] https://docs.aws.amazon.com/lambda/latest/dg/lambda-concurrency.html
    """

    def __init__(self, limit: int, functions: Callable[[], Iterable[Function]]) -> None:
        self.limit = limit
        self._functions = functions
        self._n_busy: collections.Counter[str] = collections.Counter()

    @property
    def unreserved_limit(self) -> int:
        """What functions without reserved concurrency share."""
        return self.limit - sum(f.reserved_concurrency or 0 for f in self._functions())

    def refusal(self, function: Function) -> str | None:
        """Return AWS's reason why a function may not run now; None where it may."""
        reserved = function.reserved_concurrency
        if reserved is not None:
            if self._n_busy[function.arn] >= reserved:
                return "ReservedFunctionConcurrentInvocationLimitExceeded"
            return None
        n_reserved_busy = sum(
            self._n_busy[f.arn] for f in self._functions() if f.reserved_concurrency is not None
        )
        if self._n_busy.total() - n_reserved_busy >= self.unreserved_limit:
            return "ConcurrentInvocationLimitExceeded"
        return None

    def take(self, function: Function) -> None:
        """Count an invocation that starts.

        Raises
        ------
        ApiError
            429 where it may not.
        """
        reason = self.refusal(function)
        if reason is not None:
            raise too_many_requests(reason)
        self._n_busy[function.arn] += 1

    def give_back(self, function: Function) -> None:
        """Count an invocation that ended."""
        self._n_busy[function.arn] -= 1


class CpuGate:
    """Lets environments be busy as long as the sum of their CPU shares is within the cores.

    Without it, environments that each hold their CPU share would slow each other down, and
    every billed millisecond would be inflated. Who comes first is let in first. A share of more
    than all cores is let in alone.

    Parameters
    ----------
    n_cores : float
        The cores of the host.
    """

    def __init__(self, n_cores: float) -> None:
        self._n_cores = n_cores
        self._busy = 0.0
        self._n_busy = 0
        self._waiting: collections.deque[tuple[float, asyncio.Future[None]]] = collections.deque()

    @property
    def busy_share(self) -> float:
        """The sum of the shares that are busy now."""
        return self._busy

    @contextlib.asynccontextmanager
    async def hold(self, share: float) -> AsyncIterator[None]:
        """Wait for a share of the cores, and hold it for the length of a ``with`` block."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((share, turn))
        self._let_in()
        try:
            await turn
            yield
        finally:
            if turn.done() and not turn.cancelled():
                self._busy -= share
                self._n_busy -= 1
            self._let_in()

    def _let_in(self) -> None:
        while self._waiting:
            share, turn = self._waiting[0]
            # A sum of shares is not exact: 1e-9 of a core is none.
            if self._n_busy and self._busy + share > self._n_cores + 1e-9:
                return
            self._waiting.popleft()
            if not turn.cancelled():
                turn.set_result(None)
                self._busy += share
                self._n_busy += 1
