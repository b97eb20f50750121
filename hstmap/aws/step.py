"""What deployments say of each thing that they look at, and how they know what is theirs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["OWN_TAG", "Step", "has_own_tag", "own_tag"]

#: What `deploy` made bears it, and `undeploy` removes nothing else.
OWN_TAG: Final = ("made-by", "hstmap")


@dataclass(frozen=True)
class Step:
    """One thing that was, or with a dry run would be, done.

    Parameters
    ----------
    what : str
        Which resource.
    action : {"made", "changed", "kept", "removed", "checked", "absent"}
    detail : str
    """

    what: str
    action: str
    detail: str


def own_tag() -> dict[str, str]:
    """Return the tag as AWS's lists of tags have it."""
    return dict(zip(("Key", "Value"), OWN_TAG, strict=True))


def has_own_tag(tags: Sequence[dict[str, Any]]) -> bool:
    """Tell whether a list of tags says that hstmap made what bears them."""
    return own_tag() in ({"Key": tag["Key"], "Value": tag["Value"]} for tag in tags)
