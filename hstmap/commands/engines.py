"""Engines as the settings want them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hstmap.bag.engine import EngineOptions
    from hstmap.config import Settings

__all__ = ["engine_options"]


def engine_options(settings: Settings) -> EngineOptions:
    """Turn settings into an engine's options.

    Parameters
    ----------
    settings : Settings

    Returns
    -------
    EngineOptions
    """
    from hstmap.bag.engine import EngineOptions

    return EngineOptions(
        n_workers=settings.n_workers,
        retries=settings.retries,
        timeout_s=settings.timeout_s,
        lithops_config=settings.lithops_config(),
    )
