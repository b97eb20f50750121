"""What may forbid further calls: asked before each of them, and told of all that happens."""

from __future__ import annotations

from typing import Protocol

from hstmap.bag.events import Event

__all__ = ["Gate"]


class Gate(Protocol):
    """Decides whether one more call may be sent: a first attempt, a retry or a twin.

    A call is known by the stage, the key of its task and its number, as the events have them. It
    is in flight from `~hstmap.bag.events.AttemptSubmitted`, which the gate is told of before it is
    asked again, until `~hstmap.bag.events.AttemptEnded`. One that ended as ``cancelled``, ``lost``
    or ``timeout`` may go on where the backend cannot end it, and so may those that were in flight
    when the stage ended.
    """

    def may_send(self) -> bool:
        """Say whether one more call may be sent, beside those in flight.

        Returns
        -------
        bool
            If False while calls are in flight, the gate is asked again when something has
            happened. If False while none is, the stage ends, and its other tasks come to no final
            attempt.
        """

    def note(self, event: Event) -> None:
        """Learn what happened.

        Parameters
        ----------
        event : Event
            Each of the stage, before the observers see it.
        """
