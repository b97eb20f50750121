"""The exceptions of hstmap.

::

    HstmapError
     +-- UsageError                 a bad option, configuration or manifest: refused before any work
     |    +-- RunMismatchError      the output holds a run with other parameters
     +-- StorageError               a store answered otherwise than it was asked
     |    +-- MissingObjectError    there is no such object
     |    +-- ForbiddenObjectError  the object may not be read or written
     +-- ArchiveError               the archive's search gave no usable answer
     +-- PriceListError             the published prices cannot be had or read
     +-- ImageError                 one image cannot be used
     |    +-- RejectedImageError    not an image that this is for
     |    +-- BrokenImageError      an image that is damaged
     |    +-- ExtractionError       SEP gave up on it, at the mildest settings too
     +-- EngineError                tasks could not be run at all
     |    +-- TaskError             one task failed for good
     |    +-- StaleRuntimeError     the workers run another version than the client
     |    +-- StoppedError          no more calls may be sent, for a budget
     +-- ConservationError          rows that went in did not come out

Every message says what was got, what was expected and what to do now.
"""

from __future__ import annotations

__all__ = [
    "ArchiveError",
    "BrokenImageError",
    "ConservationError",
    "EngineError",
    "ExtractionError",
    "ForbiddenObjectError",
    "HstmapError",
    "ImageError",
    "MissingObjectError",
    "PriceListError",
    "RejectedImageError",
    "RunMismatchError",
    "StaleRuntimeError",
    "StoppedError",
    "StorageError",
    "TaskError",
    "UsageError",
]


class HstmapError(Exception):
    """Base of every exception that hstmap raises on purpose."""


class UsageError(HstmapError, ValueError):
    """What was asked for cannot be done: refused before any work.

    A ValueError too, as callers of other libraries expect for an argument that will not do.
    """


class RunMismatchError(UsageError):
    """The output holds a run that was made with other parameters."""


class StorageError(HstmapError):
    """A store answered otherwise than it was asked.

    Parameters
    ----------
    key : str
        The object that was asked for, with its store's URL where known.
    message : str
        What happened, and what to do about it.
    """

    def __init__(self, key: str, message: str) -> None:
        super().__init__(key, message)
        self.key = key
        self.message = message

    def __str__(self) -> str:
        return f"{self.key}: {self.message}"


class MissingObjectError(StorageError):
    """There is no such object."""


class ForbiddenObjectError(StorageError):
    """The object may not be read, or not be written there."""


class ArchiveError(HstmapError):
    """The archive's search gave no usable answer, or answers that contradict each other."""


class PriceListError(HstmapError):
    """Published prices cannot be had, or are not as they used to be written."""


class ImageError(HstmapError):
    """One image cannot be used; the others go on.

    Parameters
    ----------
    reason : str
        A short word that reasons are counted by, such as ``"grism"``.
    message : str
        One line: what was found and what was expected.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return self.message


class RejectedImageError(ImageError):
    """Not an image that source extraction is for: another camera, a grism, a dark."""


class BrokenImageError(ImageError):
    """An image that is damaged: truncated, not FITS, or with a header that lies."""


class ExtractionError(ImageError):
    """SEP could not extract the sources, even with the mildest settings of the ladder."""


class EngineError(HstmapError):
    """Tasks could not be run at all, for example because of the engine's configuration."""


class StaleRuntimeError(EngineError):
    """What the workers have installed is not what the client runs; build and deploy it again."""


class StoppedError(EngineError):
    """An engine's gate, such as a budget, lets no more calls through, and some are left."""


class TaskError(EngineError):
    """One task failed for good.

    Parameters
    ----------
    message : str
        Which task failed, and how.
    attempt : object
        The last `~hstmap.bag.engine.Attempt` of the task.
    """

    def __init__(self, message: str, attempt: object) -> None:
        super().__init__(message, attempt)
        self.message = message
        self.attempt = attempt

    def __str__(self) -> str:
        return self.message


class ConservationError(HstmapError):
    """The rows that went in are not the rows that came out."""
