"""How long a call may take: one rule, for the calls of a map and for those of its reduce."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from hstmap.account.charges import CallWork
    from hstmap.account.run_calls import LambdaPlace
    from hstmap.config import Settings

__all__ = ["CallLimits", "limit_calls"]

#: An attempt may take so many times what is expected: images differ, the expectation may be off by
#: two, and some workers are slow.
_PATIENCE: Final = 5.0
#: And never less: a worker that begins has connections to make.
_LEAST_ATTEMPT_S: Final = 20.0
#: No function of Lambda may run longer.
_MOST_CALL_S: Final = 900.0
_LOOKS_S: Final = 2.0


@dataclass(frozen=True)
class CallLimits:
    """After what time the calls of a stage are ended.

    Attributes
    ----------
    settings : Settings
        Those of the run, with the time limit of its attempts.
    function_s : float
        Time after which Lambda ends a call, whatever its worker does, s.
    first_timeout_s : float or None
        A shorter limit for the first attempt of each task, s.
    """

    settings: Settings
    function_s: float
    first_timeout_s: float | None = None

    def work(self, n_images: int, n_files: int) -> CallWork:
        """Say what the largest call does, as its charges are reckoned from.

        Parameters
        ----------
        n_images, n_files : int
            That it measures, and that it writes.

        Returns
        -------
        CallWork
        """
        from hstmap.account.charges import CallWork

        looks_s = self.settings.lithops.get("lithops", {}).get("monitoring_interval") or _LOOKS_S
        attempt_s = self.settings.timeout_s or self.function_s
        return CallWork(n_images, n_files, attempt_s, self.function_s, float(looks_s))


def limit_calls(settings: Settings, place: LambdaPlace | None, expected_s: float) -> CallLimits:
    """Choose time limits for attempts, unless somebody said one.

    A worker that died without a word is missed by its attempt's limit, and a call in flight is
    charged for it.

    Parameters
    ----------
    settings : Settings
    place : LambdaPlace or None
        The function that is called; None if calls are made elsewhere.
    expected_s : float
        What a call is expected to take, s.

    Returns
    -------
    CallLimits
    """
    function_s = _MOST_CALL_S if place is None else float(place.timeout_s)
    if "timeout_s" in settings.given:
        return CallLimits(settings, function_s)
    wanted_s = max(_LEAST_ATTEMPT_S, _PATIENCE * expected_s)
    attempt_s = float(math.ceil(min(function_s, wanted_s)))
    if settings.budget_usd is not None:  # which wants to know what any attempt can cost
        return CallLimits(settings.with_options(timeout_s=attempt_s), function_s)
    if place is None:  # workers of this machine do not die unnoticed
        return CallLimits(settings, function_s)
    is_shorter = settings.retries and attempt_s < function_s
    return CallLimits(
        settings.with_options(timeout_s=function_s), function_s, attempt_s if is_shorter else None
    )
