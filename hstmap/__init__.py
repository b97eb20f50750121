"""Source catalogues of every Hubble WFC3/IR image: a map-reduce over AWS Lambda."""

from __future__ import annotations

__version__ = "0.1.0"
