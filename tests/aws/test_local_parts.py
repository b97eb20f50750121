"""The small parts of the loopback AWS one by one: output, endings, Runtime API, events, logs."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
from dataclasses import dataclass, field

import aiohttp
import pytest
from botocore.exceptions import EndpointConnectionError
from hypothesis import given
from hypothesis import strategies as st

from hstmap.aws.local.admission import Concurrency
from hstmap.aws.local.asynchronous import EventQueue
from hstmap.aws.local.endings import died, error_payload, timed_out
from hstmap.aws.local.environments import Invocation
from hstmap.aws.local.faults import FaultScript
from hstmap.aws.local.invoker import Outcome
from hstmap.aws.local.logs import LogBatch, LogWriter
from hstmap.aws.local.output import Output
from hstmap.aws.local.runtime_api import RuntimeApi

texts = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=200)


def printed(chunks: list[bytes]) -> list[str]:
    """What comes out of a pipe into which these chunks were written, one after the other."""

    async def run() -> list[str]:
        lines: list[str] = []
        output = Output(lines.append)
        for chunk in chunks:
            os.write(output.write_fd, chunk)
            output.drain()
        output.close_writer()
        output.drain()
        output.close()
        return lines

    return asyncio.run(run())


@given(text=texts, cuts=st.lists(st.integers(0, 800), max_size=4))
def test_output_is_whole_lines_however_it_was_written(text, cuts):
    data = text.encode()
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    lines = printed([data[a:b] for a, b in itertools.pairwise(edges) if a < b])
    assert "".join(lines) == (text if text.endswith("\n") or not text else text + "\n")
    assert all(line.endswith("\n") and "\n" not in line[:-1] for line in lines)


def test_a_traceback_that_the_runtime_keeps_together_is_one_event():
    assert printed([b"[ERROR] x\rTraceback\r  File\n"]) == ["[ERROR] x\nTraceback\n  File\n"]


def test_an_endless_line_is_cut_and_bytes_that_are_no_text_are_shown():
    lines = printed([b"x" * (60 << 10)] * 9)
    assert len(lines) == 3
    assert sum(len(line) - 1 for line in lines) == 9 * (60 << 10)
    assert printed([b"\xff\xfe\n"]) == ["\ufffd\ufffd\n"]


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (0, "Runtime exited without providing a reason"),
        (1, "Runtime exited with error: exit status 1"),
        (106, "Runtime exited with error: exit status 106"),
        (-signal.SIGSEGV, "Runtime exited with error: signal: segmentation fault"),
        (128 + signal.SIGSEGV, "Runtime exited with error: signal: segmentation fault"),
        (-signal.SIGKILL, "Runtime exited with error: signal: killed"),
        (255, "Runtime exited with error: exit status 255"),
    ],
)
def test_an_exit_is_told_in_awss_words(status, message):
    ending = died(status, for_memory=False, is_killed=False)
    assert (ending.message, ending.error_type) == (message, "Runtime.ExitError")
    assert json.loads(error_payload("id", ending)) == {
        "errorType": "Runtime.ExitError",
        "errorMessage": f"RequestId: id Error: {message}",
    }


def test_memory_and_time_have_error_types_of_their_own():
    assert died(1, for_memory=True, is_killed=False).error_type == "Runtime.OutOfMemory"
    ending = timed_out(3)
    assert (ending.status, ending.error_type) == ("timeout", "Sandbox.Timedout")
    assert ending.message == "Task timed out after 3.00 seconds"


def with_runtime_api(talk):
    """Run a conversation with a Runtime API: ``talk(api, client, url)``."""

    async def run():
        api = RuntimeApi()
        await api.start()
        url = f"http://{api.address}/2018-06-01/runtime"
        async with aiohttp.ClientSession() as client:
            result = await talk(api, client, url)
        await api.close()
        return result

    return asyncio.run(run())


def test_a_runtime_gets_its_event_with_what_it_must_know_and_answers_it():
    async def talk(api, client, url):
        asking = asyncio.ensure_future(client.get(f"{url}/invocation/next"))
        await api.waiting.wait()
        answer = api.deliver("id-1", b'{"a": 1}', {"Lambda-Runtime-Client-Context": "c"}, 30)
        assert not api.waiting.is_set()
        event = await asking
        assert await event.json() == {"a": 1}
        assert event.headers["Lambda-Runtime-Aws-Request-Id"] == "id-1"
        assert event.headers["Lambda-Runtime-Client-Context"] == "c"
        assert int(event.headers["Lambda-Runtime-Deadline-Ms"]) > 0
        posted = await client.post(f"{url}/invocation/id-1/response", data=b'"done"')
        assert posted.status == 202
        return await answer

    answer = with_runtime_api(talk)
    assert (answer.payload, answer.is_error) == (b'"done"', False)


def test_answers_to_another_event_or_a_second_answer_are_refused():
    async def talk(api, client, url):
        answer = api.deliver("id-1", b"{}", {}, 30)
        statuses = []
        for path in ("id-2/response", "id-1/error", "id-1/response"):
            reply = await client.post(f"{url}/invocation/{path}", data=b"{}")
            statuses.append(reply.status)
        return statuses, await answer

    statuses, answer = with_runtime_api(talk)
    assert statuses == [400, 202, 400]
    assert answer.is_error


def test_an_init_error_is_told_and_forgotten_for_the_second_try():
    async def talk(api, client, url):
        reply = await client.post(f"{url}/init/error", json={"errorType": "Runtime.X"})
        assert reply.status == 202
        body = api.init_error.result()
        api.reset()
        return body, api.init_error.done()

    body, is_done = with_runtime_api(talk)
    assert json.loads(body) == {"errorType": "Runtime.X"}
    assert not is_done


@dataclass
class FunctionStub:
    name: str = "f"
    arn: str = "arn:f"
    region: str = "r"
    reserved_concurrency: int | None = None
    event_invoke: dict = field(default_factory=dict)


class InvokerStub:
    """Fails as often as it is told to, by what it is told to."""

    def __init__(self, *endings):
        self.endings = list(endings)
        self.n_runs = 0

    async def run(self, function, invocation):
        self.n_runs += 1
        ending = self.endings.pop(0) if self.endings else None
        if isinstance(ending, Exception):
            raise ending
        return Outcome(b"{}", is_error=bool(ending), log_tail=b"")


def events_of(function, invoker, n_events=1):
    """Send events to a queue until all are done with; return those that were given up."""

    async def run():
        concurrency = Concurrency(10, lambda: [function])
        queue = EventQueue(invoker, concurrency, lambda *_: function, FaultScript(), (0.0, 0.0))
        for number in range(n_events):
            queue.put(function, Invocation(str(number), b"{}"))
        await asyncio.wait_for(queue.join(), 30)
        assert concurrency.refusal(function) is None
        await queue.close()
        return queue.discarded

    return asyncio.run(run())


def test_an_event_that_grew_too_old_is_given_up():
    function = FunctionStub(event_invoke={"MaximumEventAgeInSeconds": -1})
    invoker = InvokerStub()
    (discarded,) = events_of(function, invoker)
    assert "older than MaximumEventAgeInSeconds" in discarded.reason
    assert invoker.n_runs == 0


def test_an_environment_that_cannot_be_started_is_retried():
    invoker = InvokerStub(OSError("no more processes"), OSError("no more processes"))
    assert events_of(FunctionStub(), invoker) == []
    assert invoker.n_runs == 3


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 20), st.integers(0, 2))
def test_every_event_ends_once_after_as_many_runs_as_it_may_have(fails, n_events, n_retries):
    invoker = InvokerStub(*fails)
    function = FunctionStub(event_invoke={"MaximumRetryAttempts": n_retries})
    discarded = events_of(function, invoker, n_events)
    n_failed = sum(fails[: invoker.n_runs])
    assert len({event.request_id for event in discarded}) == len(discarded) <= n_events
    assert invoker.n_runs == n_events - len(discarded) + n_failed
    assert n_failed >= (n_retries + 1) * len(discarded)


def test_logs_that_cannot_be_written_are_lost_with_a_warning_and_the_next_ones_are_not(caplog):
    class Client:
        class exceptions:  # noqa: N801 - as botocore names it
            class ResourceNotFoundException(Exception):  # noqa: N818
                pass

        written: list[str] = []  # noqa: RUF012

        def put_log_events(self, **request):
            if request["logGroupName"] == "unreachable":
                raise EndpointConnectionError(endpoint_url="http://127.0.0.1:1")
            self.written.append(request["logGroupName"])

    async def run():
        writer = LogWriter(lambda region: Client())
        for group in ("unreachable", "reachable"):
            writer.put(LogBatch("r", group, "s", ((0, "line"),)))
        writer.put(LogBatch("r", "empty", "s", ()))
        task = asyncio.ensure_future(writer.run())
        await writer.join()
        task.cancel()

    asyncio.run(run())
    assert Client.written == ["reachable"]
    assert "log events of unreachable were lost" in caplog.text
