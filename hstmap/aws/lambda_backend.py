"""Lambda as a compute backend of Lithops.

In the place of Lithops' own ``aws_lambda``, which signs invocations by hand for amazonaws.com,
loses what is throttled, sends its configuration with the credentials in it along with every event,
and takes no notice of settings that changed. Lithops loads backends by name;
`hstmap.bag.lithops_remote` tells it this one.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterable, Mapping
from typing import Any, Final

from hstmap.aws.event import (
    CALL_MARK,
    CallEvent,
    check_versions,
    python_version,
    runtime_facts,
    without_secrets,
)
from hstmap.aws.function import (
    VERSION_TAGS,
    concurrency_quota,
    find_function,
    keep_as_configured,
)
from hstmap.aws.s3_requests import storage_requests
from hstmap.aws.session import AwsSession
from hstmap.aws.settings import SECTION, AwsSettings, aws_settings, default_bucket
from hstmap.errors import EngineError

__all__ = ["LambdaBackend", "load_config", "storage_requests"]

#: What is throttled, or met a failure of network or service, is sent again, up to so often, after
#: pauses that grow exponentially, with full jitter
#: (https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter); then Lithops
#: queues the call. Not by botocore, which would go on for a call that was given up, or when the
#: run is over.
_N_SENDINGS: Final = 6
_LONGEST_PAUSE_S: Final = 20.0
#: What Lithops is told of a call that is not sent any more, so that it forgets it.
_NOT_SENT: Final = "not sent"
#: What Lithops requires of any serverless backend.
_LITHOPS_NEEDS: Final = {"worker_processes": 1, "invoke_pool_threads": 64}


def load_config(config: dict[str, Any], name: str) -> None:
    """Complete the section of this backend, for Lithops.

    Parameters
    ----------
    config : dict
        Lithops' configuration, which is changed.
    name : str
        Of the section.
    """
    storage = config["aws_s3"] = config.get("aws_s3") or {}
    given = {SECTION: config[name], "aws": config.get("aws"), "aws_s3": storage}
    settings = aws_settings(given, account_id="")
    if "storage_bucket" not in storage:  # else Lithops would make one that workers may not use
        account_id = AwsSession(settings.region).account_id()
        storage["storage_bucket"] = default_bucket(account_id, settings.region)
    config[name] = {
        **_LITHOPS_NEEDS,
        **(config.get("aws") or {}),
        **config[name],
        "runtime": settings.function,
        "runtime_memory": settings.memory_mb,
        "runtime_timeout": settings.timeout_s,
        "max_workers": settings.max_workers,
        "region": settings.region,
    }


class LambdaBackend:
    """Invokes a function that `~hstmap.aws.deploy` made.

    Parameters
    ----------
    config : mapping
        Its section of Lithops' configuration.
    internal_storage : object
        Lithops' storage; its bucket is where calls leave their answers.

    Attributes
    ----------
    refusal : Exception or None
        Why Lambda would not take an invocation, if not for want of room.
    n_places : int
        Invocations that the account allows at a time; known after `prepare`.
    most_event_nbytes : int
        Largest argument of a call that is to travel with its event.
    answers_url : str
        The bucket in which calls leave their answers.
    request_ids : dict of (str, str, str) to str
        Lambda's id of the last request for each call, by executor, job and call of Lithops: the
        REPORT line of a call that never answers is found by it.
    """

    type = "faas"
    # In base 64 and with the rest of an event it stays below the 256 KB that are charged once.
    most_event_nbytes = 128 * 1024

    def __init__(self, config: Mapping[str, Any], internal_storage: Any) -> None:
        self._config = dict(config)
        self._bucket = internal_storage.bucket
        self.answers_url = f"s3://{self._bucket}"
        self._session = AwsSession(config["region"])
        self._control = self._session.client("lambda")
        self._client = AwsSession(config["region"], n_attempts=1).client("lambda")
        self.refusal: Exception | None = None
        self.n_places = 0
        self.request_ids: dict[tuple[str, str, str], str] = {}
        self._withdrawn: set[tuple[str, str, str]] = set()
        self._is_over = threading.Event()

    def prepare(self) -> dict[str, Any]:
        """Make sure that the function is there, of this version, and set up as configured.

        Returns
        -------
        dict
            What Lithops wants to know of a runtime.

        Raises
        ------
        EngineError
            If the function is not deployed.
        StaleRuntimeError
            If it holds another version.
        """
        settings = self._settings()
        found = find_function(self._control, settings.function)
        if found is None:
            raise EngineError(
                f"there is no function {settings.function!r} in {settings.region}: deploy it, by "
                "python -m hstmap deploy"
            )
        tags = found.get("Tags", {})
        deployed = {name: tags.get(tag, "") for name, tag in VERSION_TAGS.items()}
        check_versions(runtime_facts(), deployed)
        keep_as_configured(self._control, settings, found)
        self.n_places = concurrency_quota(self._control)
        return {
            "preinstalls": [],
            "python_version": python_version(),
            "runtime_timeout": settings.timeout_s,
        }

    def _settings(self) -> AwsSettings:
        config = {SECTION: self._config, "aws_s3": {"storage_bucket": self._bucket}}
        return aws_settings(config, self._session.account_id())

    def invoke(
        self,
        runtime_name: str,
        memory: int,  # noqa: ARG002 - Lithops gives it; the function has it in its configuration
        payload: dict[str, Any],
    ) -> str | None:
        """Send an event.

        Parameters
        ----------
        runtime_name : str
            The function.
        memory : int
            Not looked at.
        payload : dict
            Lithops' own, of one call.

        Returns
        -------
        str or None
            Lambda's id of the request; None if there is no room, and Lithops is to try again.
        """
        calls = [(payload["executor_id"], payload["job_id"], n) for n in payload["call_ids"]]
        if CALL_MARK in payload["extra_env"]:
            event = CallEvent.from_lithops(payload, self._bucket).as_dict()
        else:
            event = without_secrets(payload)
        for n in range(_N_SENDINGS):
            longest_s = min(2.0 ** (n - 1), _LONGEST_PAUSE_S) if n else 0.0
            if self._is_over.wait(random.uniform(0.0, longest_s)):
                return _NOT_SENT
            if self._withdrawn.issuperset(calls):
                return _NOT_SENT
            request_id = self._send(runtime_name, event, is_last=n == _N_SENDINGS - 1)
            if request_id is not None:
                self.request_ids |= dict.fromkeys(calls, request_id)
                return request_id
        return None

    def _send(self, function: str, event: Mapping[str, Any], *, is_last: bool) -> str | None:
        """Send an event once; return the request's id, or None if that is to be tried again."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer = self._client.invoke(
                FunctionName=function,
                InvocationType="Event",
                Payload=json.dumps(event, default=str),  # Lithops sends bytes as their text
            )
        except self._client.exceptions.TooManyRequestsException:
            return None
        except (BotoCoreError, ClientError) as error:
            if _may_pass(error) and not is_last:
                return None
            self.refusal = error
            raise
        return str(answer["ResponseMetadata"]["RequestId"])

    def withdraw(self, calls: Iterable[tuple[str, str, str]]) -> None:
        """Send calls no more that Lithops still has in its queue.

        Parameters
        ----------
        calls : iterable of (str, str, str)
            Executor, job and call of Lithops.
        """
        self._withdrawn.update(calls)

    def end(self) -> None:
        """Send nothing more."""
        self._is_over.set()

    def deploy_runtime(self, runtime_name: str, memory: int, timeout: int) -> dict[str, Any]:
        """See to the function for a user of Lithops itself, and say what Lithops' worker says.

        Parameters
        ----------
        runtime_name : str
            The function.
        memory, timeout : int
            Those of the configuration, which `prepare` sets.

        Returns
        -------
        dict

        Raises
        ------
        EngineError
            If the package has no Lithops.
        """
        self._config |= {"runtime_memory": memory, "runtime_timeout": timeout}
        self.prepare()
        answer = self._control.invoke(FunctionName=runtime_name, Payload=b'{"get_metadata": {}}')
        told: dict[str, Any] = json.loads(answer["Payload"].read())
        if "FunctionError" in answer:
            raise EngineError(f"Lithops itself cannot be used there: {told.get('errorMessage')}")
        return told

    def get_runtime_key(self, runtime_name: str, memory: int, version: str) -> str:
        """Return what Lithops keeps a runtime's metadata by."""
        return f"hstmap/{version}/{self._config['region']}/{runtime_name}-{memory}"

    def get_runtime_info(self) -> dict[str, Any]:
        """Return a runtime's name and limits."""
        names = ("runtime_memory", "runtime_timeout", "max_workers")
        return {"runtime_name": self._config["runtime"]} | {n: self._config[n] for n in names}


def _may_pass(error: Exception) -> bool:
    """Tell whether a failure is of the network, or of the service's own making."""
    from botocore import exceptions

    if isinstance(error, exceptions.ClientError):
        return bool(error.response["ResponseMetadata"].get("HTTPStatusCode", 0) >= 500)
    return isinstance(error, exceptions.ConnectionError | exceptions.HTTPClientError)
