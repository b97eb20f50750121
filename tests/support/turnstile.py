"""A gate that lets only so many calls through."""

from __future__ import annotations

from hstmap.bag.events import AttemptSubmitted, Event, StageEnded


class Turnstile:
    """Lets so many calls through."""

    def __init__(self, n_calls: int) -> None:
        self.n_calls = n_calls
        self.stages: list[tuple[str, bool]] = []

    def may_send(self) -> bool:
        return self.n_calls > 0

    def note(self, event: Event) -> None:
        self.n_calls -= isinstance(event, AttemptSubmitted)
        if isinstance(event, StageEnded):
            self.stages.append((event.stage, event.complete))
