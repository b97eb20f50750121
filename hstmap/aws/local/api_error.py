"""Errors of the Lambda API, in the form in which AWS answers them."""

from __future__ import annotations

from typing import Any

__all__ = ["ApiError", "conflict", "invalid_parameter", "not_found", "too_many_requests"]


class ApiError(Exception):
    """An error that the Lambda API answers.

    Parameters
    ----------
    status : int
        The HTTP status.
    code : str
        The name of the exception in AWS's service model.
    message : str
        What is said to the client.
    **members
        Further members of the exception, such as ``Reason``.
    """

    def __init__(self, status: int, code: str, message: str, **members: Any) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        # AWS's service model spells this one member differently for this one exception.
        member = "Message" if code == "ResourceNotFoundException" else "message"
        self.body: dict[str, Any] = {"Type": "User", member: message, **members}


def invalid_parameter(message: str) -> ApiError:
    """Answer that a parameter has a value that it cannot have."""
    return ApiError(400, "InvalidParameterValueException", message)


def not_found(kind: str, arn: str) -> ApiError:
    """Answer that there is no such function, layer or setting."""
    return ApiError(404, "ResourceNotFoundException", f"{kind} not found: {arn}")


def conflict(message: str) -> ApiError:
    """Answer that a resource of this name exists already."""
    return ApiError(409, "ResourceConflictException", message)


def too_many_requests(reason: str) -> ApiError:
    """Answer that the call is throttled, with one of AWS's reasons."""
    return ApiError(429, "TooManyRequestsException", "Rate Exceeded.", Reason=reason)
