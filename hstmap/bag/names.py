"""Names of steps: what they do, and a token that is the same for the same step."""

from __future__ import annotations

import functools
import operator
import pickle
import uuid
from typing import Any, cast

from hstmap.bag.graph import Node, topological
from hstmap.bag.hashing import exact_digest
from hstmap.bag.sources import SequenceSlices

__all__ = ["function_name", "unique_name"]

_LONGEST_NAME = 50


def function_name(function: Any) -> str:
    """Return a name for people, of whatever can be called.

    Examples
    --------
    >>> function_name(len), function_name(lambda x: x)
    ('len', 'lambda')
    """
    if isinstance(function, functools.partial):
        return function_name(function.func)
    if isinstance(function, operator.methodcaller):
        factory, arguments = cast("tuple[Any, tuple[Any, ...]]", function.__reduce__())
        # With keywords, it is made again by a partial of itself that has the name.
        (name, *_) = factory.args if isinstance(factory, functools.partial) else arguments
        return str(name)[:_LONGEST_NAME]
    if function is None:
        return "None"
    name = getattr(function, "__name__", None) or type(function).__name__
    return "lambda" if name == "<lambda>" else str(name)[:_LONGEST_NAME]


def unique_name(node: Node) -> str:
    """Return the node's label and a token that stands for all that makes it what it is.

    Two nodes that were built in the same way from the same functions and the same data have the
    same name. What cannot be pickled counts as different from anything else.
    """
    tokens: dict[Node, bytes] = {}
    for each in topological([node]):
        above = [tokens[parent] for parent in each.parents]
        tokens[each] = exact_digest((each.label, _token(each.operation), each.n_partitions, *above))
    return f"{node.label}-{tokens[node].hex()}"


def _token(operation: Any) -> bytes:
    if isinstance(operation, SequenceSlices) and not isinstance(operation.sequence, range):
        # One pass in C: item by item would take seconds for a million.
        thing: Any = (operation.size, _pickled(operation.sequence))
    else:
        thing = operation
    try:
        return exact_digest(thing)
    except (pickle.PicklingError, TypeError, AttributeError):
        return uuid.uuid4().bytes


def _pickled(thing: Any) -> bytes:
    try:
        return pickle.dumps(thing)
    except (pickle.PicklingError, TypeError, AttributeError):
        return uuid.uuid4().bytes
