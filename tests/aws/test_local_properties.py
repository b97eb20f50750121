"""What holds of the loopback AWS whatever is asked: settings, concurrency, endings, images."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hstmap.aws.local.admission import Concurrency
from hstmap.aws.local.api_error import ApiError
from hstmap.aws.local.configuration import (
    MAX_VARIABLES_NBYTES,
    event_invoke_configuration,
    new_configuration,
    updated_configuration,
)
from hstmap.aws.local.endings import died, error_payload, timed_out
from hstmap.aws.local.images import image_program
from hstmap.errors import UsageError

MODEL = botocore.session.get_session().get_service_model("lambda")
PREFIX = "arn:aws:lambda:us-east-1:123456789012:function:"
ROLE = "arn:aws:iam::123456789012:role/r"
NAMES = st.from_regex(r"[a-zA-Z][a-zA-Z0-9_]{0,15}", fullmatch=True)

#: What an update may change, each within AWS's limits.
CHANGES: dict[str, st.SearchStrategy[Any]] = {
    "Description": st.text("abc ", max_size=40),
    "EphemeralStorage": st.fixed_dictionaries({"Size": st.integers(512, 10240)}),
    "Environment": st.fixed_dictionaries(
        {"Variables": st.dictionaries(NAMES.map("V_".__add__), st.text("xyz", max_size=20))}
    ),
    "MemorySize": st.integers(128, 10240),
    "Timeout": st.integers(1, 900),
    "Handler": NAMES.map("{}.handle".format),
    "LoggingConfig": st.fixed_dictionaries(
        {"LogFormat": st.just("JSON"), "SystemLogLevel": st.sampled_from(["DEBUG", "INFO", "WARN"])}
    ),
}
UPDATES = st.fixed_dictionaries({}, optional=CHANGES)


def created(**changes: Any) -> dict[str, Any]:
    request = {
        "FunctionName": "f", "Role": ROLE, "Runtime": "python3.12", "Handler": "a.b", "Code": {},
    }  # fmt: skip
    return new_configuration(request | changes, PREFIX)


def hold_against_model(value: dict[str, Any], shape: str) -> None:
    """Hold a value against a shape of AWS's: types, names, what must be there, ranges."""
    report = ParamValidator().validate(value, MODEL.shape_for(shape))
    assert not report.has_errors(), report.generate_report()


@given(request=UPDATES, update=UPDATES)
def test_configurations_are_awss_and_say_what_was_asked_last(
    request: dict[str, Any], update: dict[str, Any]
) -> None:
    before = created(**request)
    after = updated_configuration(before, update)
    for configuration in (before, after):
        hold_against_model(configuration, "FunctionConfiguration")
    for name in CHANGES.keys() - {"LoggingConfig"}:
        expected = update.get(name, before.get(name))
        assert after.get(name) == expected, name
    assert after["RevisionId"] != before["RevisionId"]
    wanted = update.get("LoggingConfig", request.get("LoggingConfig", {}))
    assert after["LoggingConfig"].items() >= wanted.items()


@given(update=UPDATES, second=UPDATES)
def test_an_update_done_twice_is_one_and_a_present_one_is_not_changed(
    update: dict[str, Any], second: dict[str, Any]
) -> None:
    start = created()
    kept = json.dumps(start)
    once = updated_configuration(start, update)
    twice = updated_configuration(once, update)
    changing = {"RevisionId", "LastModified"}
    assert {n: v for n, v in once.items() if n not in changing} == {
        n: v for n, v in twice.items() if n not in changing
    }
    updated_configuration(start, second)
    assert json.dumps(start) == kept


@given(
    name=st.sampled_from(["MemorySize", "Timeout", "EphemeralStorage"]),
    value=st.one_of(st.integers(-(10**6), 10**6), st.none(), st.text(max_size=3)),
)
def test_numbers_are_taken_within_awss_limits_and_no_further(name: str, value: Any) -> None:
    low, high = {
        "MemorySize": (128, 10240), "Timeout": (1, 900), "EphemeralStorage": (512, 10240),
    }[name]  # fmt: skip
    given_value = {"Size": value} if name == "EphemeralStorage" else value
    if isinstance(value, int) and low <= value <= high:
        assert created(**{name: given_value})[name] == given_value
        return
    with pytest.raises(ApiError) as caught:
        created(**{name: given_value})
    assert (caught.value.status, caught.value.code) == (400, "ValidationException")
    assert f"between {low} and {high}" in str(caught.value.body)


@given(n_bytes=st.integers(MAX_VARIABLES_NBYTES - 3, MAX_VARIABLES_NBYTES + 3))
def test_variables_have_4_kilobytes_with_their_names(n_bytes: int) -> None:
    variables = {"Environment": {"Variables": {"NAME": "v" * (n_bytes - len("NAME"))}}}
    if n_bytes <= MAX_VARIABLES_NBYTES:
        created(**variables)
        return
    with pytest.raises(ApiError, match="4096 bytes"):
        created(**variables)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SnapStart", {"ApplyOn": "PublishedVersions"}),
        ("TracingConfig", {"Mode": "Active"}),
        ("VpcConfig", {"SubnetIds": ["subnet-1"], "SecurityGroupIds": []}),
        ("DeadLetterConfig", {"TargetArn": "arn:aws:sqs:us-east-1:1:q"}),
        ("FileSystemConfigs", [{"Arn": "a", "LocalMountPath": "/mnt/x"}]),
        ("CodeSigningConfigArn", "arn:x"),
    ],
)
def test_what_it_does_not_do_is_refused_by_name_and_what_means_nothing_is_taken(
    name: str, value: Any
) -> None:
    with pytest.raises(ApiError, match=name):
        created(**{name: value})
    harmless = {"SnapStart": {"ApplyOn": "None"}, "TracingConfig": {"Mode": "PassThrough"}}
    hold_against_model(created(**harmless), "FunctionConfiguration")


@given(
    retries=st.one_of(st.none(), st.integers(-1, 4)),
    age_s=st.one_of(st.none(), st.integers(0, 30000)),
)
def test_event_settings_keep_to_awss_ranges(retries: int | None, age_s: int | None) -> None:
    body = {"MaximumRetryAttempts": retries, "MaximumEventAgeInSeconds": age_s}
    is_right = (retries is None or 0 <= retries <= 2) and (age_s is None or 60 <= age_s <= 21600)
    if not is_right:
        with pytest.raises(ApiError):
            event_invoke_configuration(None, body, f"{PREFIX}f")
        return
    settings = event_invoke_configuration(None, body, f"{PREFIX}f")
    assert {n: settings.get(n) for n in body} == body
    assert event_invoke_configuration(settings, {}, f"{PREFIX}f").items() >= {
        (n, v) for n, v in body.items() if v is not None
    }


# -- concurrency -----------------------------------------------------------------------------------


@dataclass(eq=False)
class FunctionStub:
    arn: str
    reserved_concurrency: int | None = None


class AccountMachine(RuleBasedStateMachine):
    """Invocations come and go, and the limits hold after every step."""

    LIMIT = 6

    def __init__(self) -> None:
        super().__init__()
        self.functions = [FunctionStub("a"), FunctionStub("b"), FunctionStub("c", 2)]
        self.concurrency = Concurrency(self.LIMIT, lambda: self.functions)
        self.busy: Counter[str] = Counter()

    @property
    def n_unreserved(self) -> int:
        """Invocations of the functions that share what is not reserved."""
        shared = (item for item in self.functions if item.reserved_concurrency is None)
        return sum(self.busy[item.arn] for item in shared)

    @rule(which=st.integers(0, 2))
    def start(self, which: int) -> None:
        function = self.functions[which]
        refusal = self.concurrency.refusal(function)
        if refusal is None:
            self.concurrency.take(function)
            self.busy[function.arn] += 1
            return
        with pytest.raises(ApiError) as caught:
            self.concurrency.take(function)
        assert caught.value.body["Reason"] == refusal
        # Refused is only who would go over a limit.
        if function.reserved_concurrency is None:
            assert self.n_unreserved >= self.concurrency.unreserved_limit
        else:
            assert self.busy[function.arn] >= function.reserved_concurrency

    @precondition(lambda self: self.busy.total() > 0)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        busy = sorted(arn for arn, n in self.busy.items() if n)
        arn = data.draw(st.sampled_from(busy))
        (function,) = [item for item in self.functions if item.arn == arn]
        self.concurrency.give_back(function)
        self.busy[arn] -= 1

    @precondition(lambda self: self.busy.total() == 0)
    @rule(n=st.one_of(st.none(), st.integers(0, 4)))
    def reserve(self, n: int | None) -> None:
        self.functions[2].reserved_concurrency = n

    @invariant()
    def nobody_is_over_a_limit(self) -> None:
        assert self.busy.total() <= self.LIMIT
        reserved = self.functions[2].reserved_concurrency
        if reserved is not None:
            assert self.busy["c"] <= reserved
            assert self.busy["a"] + self.busy["b"] <= self.LIMIT - reserved


TestAccount = AccountMachine.TestCase


# -- endings ---------------------------------------------------------------------------------------


@given(status=st.integers(-64, 255), for_memory=st.booleans(), is_killed=st.booleans())
def test_a_death_is_an_error_with_awss_words_whatever_killed_it(
    status: int, for_memory: bool, is_killed: bool
) -> None:
    ending = died(status, for_memory=for_memory, is_killed=is_killed)
    assert ending.is_error
    assert ending.status == "error"
    assert ending.error_type == ("Runtime.OutOfMemory" if for_memory else "Runtime.ExitError")
    told = json.loads(error_payload("id", ending))
    assert told["errorType"] == ending.error_type
    assert told["errorMessage"].startswith("RequestId: id Error: Runtime exited")
    assert ("signal: killed" in told["errorMessage"]) or not (for_memory or is_killed)


@given(timeout_s=st.floats(1, 900))
def test_a_time_out_says_after_how_long(timeout_s: float) -> None:
    told = json.loads(error_payload("id", timed_out(timeout_s)))
    assert told["errorType"] == "Sandbox.Timedout"
    assert f"after {timeout_s:.2f} seconds" in told["errorMessage"]


# -- images ----------------------------------------------------------------------------------------

WORDS = st.lists(NAMES, min_size=1, max_size=3)


@given(
    config=st.fixed_dictionaries({}, optional={"Entrypoint": WORDS, "Cmd": WORDS}),
    overrides=st.fixed_dictionaries({}, optional={"EntryPoint": WORDS, "Command": WORDS}),
)
def test_the_functions_settings_win_over_the_images(
    tmp_path_factory: pytest.TempPathFactory, config: dict[str, Any], overrides: dict[str, Any]
) -> None:
    root: Path = tmp_path_factory.mktemp("root")
    (root / "config.json").write_text(json.dumps(config))
    command = overrides.get("Command") or config.get("Cmd")
    if command is None:
        with pytest.raises(UsageError, match="names no handler"):
            image_program(root, overrides)
        return
    program = image_program(root, overrides)
    assert program.handler == command[-1]
    entry = overrides.get("EntryPoint") or config.get("Entrypoint")
    assert list(program.command) == [*(entry or program.command[: -len(command)]), *command]
    assert program.working_folder == "/var/task"
