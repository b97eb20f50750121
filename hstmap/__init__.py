"""Source catalogues of every Hubble WFC3/IR image: a map-reduce over AWS Lambda.

The names of the map-reduce are here, in the manner of `dask.bag`: `from_sequence`, `range`,
`from_manifest`, `Bag` and so on; and `read_catalog`, for one image of a run. Importing this
imports nothing else; each name brings its module when it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hstmap.bag.bag import Bag, concat, from_sequence
    from hstmap.bag.bag import bag_range as range  # noqa: A004 - as dask.bag spells it
    from hstmap.bag.bag import bag_zip as zip  # noqa: A004
    from hstmap.bag.collection import compute
    from hstmap.bag.engine import EngineOptions
    from hstmap.bag.failures import Failure
    from hstmap.bag.item import Item
    from hstmap.bag.session import use_engine
    from hstmap.bag.transforms import map_bag_partitions as map_partitions
    from hstmap.bag.transforms import map_bags as map  # noqa: A004
    from hstmap.manifest_bag import from_manifest
    from hstmap.report.catalogs import read_catalog

__version__ = "0.1.0"

__all__ = [
    "Bag",
    "EngineOptions",
    "Failure",
    "Item",
    "compute",
    "concat",
    "from_manifest",
    "from_sequence",
    "map",
    "map_partitions",
    "range",
    "read_catalog",
    "use_engine",
    "zip",
]

_HOMES = {
    "Bag": "hstmap.bag.bag",
    "EngineOptions": "hstmap.bag.engine",
    "Failure": "hstmap.bag.failures",
    "Item": "hstmap.bag.item",
    "compute": "hstmap.bag.collection",
    "concat": "hstmap.bag.bag",
    "from_manifest": "hstmap.manifest_bag",
    "from_sequence": "hstmap.bag.bag",
    "map": "hstmap.bag.transforms:map_bags",
    "map_partitions": "hstmap.bag.transforms:map_bag_partitions",
    "range": "hstmap.bag.bag:bag_range",
    "read_catalog": "hstmap.report.catalogs",
    "use_engine": "hstmap.bag.session",
    "zip": "hstmap.bag.bag:bag_zip",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    return getattr(importlib.import_module(module), attribute or name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
