"""Faults of a server, by a script: what a client must live through, as often as wanted."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from hstmap.archive.offline.server import Answer, Question

__all__ = ["Fault", "Script", "cut_off", "edited", "not_json", "stalled", "status", "truncated"]

Change = Callable[[Question, Answer], Answer]


@dataclass(frozen=True)
class Fault:
    """What goes wrong with the first answers to a question.

    Parameters
    ----------
    change : callable
        Turns the question and its honest answer into the faulty one.
    page : int
        Page that it happens to, counted from 0.
    times : int
        How many of the answers it happens to.
    kind : str
        Kind of question, as `Question` names them.
    """

    change: Change
    page: int = 0
    times: int = 1
    kind: str = "search"


class Script:
    """Meddles with the answers of a server as its faults say.

    Parameters
    ----------
    *faults : Fault
        In the order in which they are tried.

    Attributes
    ----------
    n_done : int
        Answers that were faulty so far.
    """

    def __init__(self, *faults: Fault) -> None:
        self.n_done = 0
        self._left = {fault: fault.times for fault in faults}
        self._lock = threading.Lock()

    def __call__(self, question: Question, answer: Answer) -> Answer:
        """Return the answer to send."""
        with self._lock:
            meant = (question.kind, question.page)
            fault = next(
                (f for f, n in self._left.items() if n and (f.kind, f.page) == meant), None
            )
            if fault is None:
                return answer
            self._left[fault] -= 1
            self.n_done += 1
        return fault.change(question, answer)


def status(code: int, **headers: str) -> Change:
    """Answer with another status."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _question, _answer: Answer(b"the database is busy", code, named)


def truncated(_question: Question, answer: Answer) -> Answer:
    """Send half of the JSON as if it were all."""
    return replace(answer, body=answer.body[: len(answer.body) // 2])


def cut_off(_question: Question, answer: Answer) -> Answer:
    """Hang up half-way."""
    return replace(
        answer, body=answer.body[: len(answer.body) // 2], announced_nbytes=len(answer.body)
    )


def stalled(again: threading.Event, most_s: float = 60.0) -> Change:
    """Keep the client waiting until the test says that it has come back, or for `most_s`."""

    def change(_question: Question, answer: Answer) -> Answer:
        again.wait(most_s)
        return answer

    return change


def not_json(_question: Question, answer: Answer) -> Answer:
    """Send a web page, as a proxy in trouble does."""
    return replace(answer, body=b"<html>gateway</html>")


def edited(edit: Callable[[dict[str, Any]], None]) -> Change:
    """Send the honest JSON with a change."""

    def change(_question: Question, answer: Answer) -> Answer:
        content = json.loads(answer.body)
        edit(content)
        return replace(answer, body=json.dumps(content).encode())

    return change
