"""Engines as the settings want them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hstmap.bag.engine import EngineOptions
    from hstmap.config import Settings

__all__ = ["engine_options", "where_it_runs"]


def engine_options(settings: Settings, **further: Any) -> EngineOptions:
    """Turn settings into an engine's options.

    Parameters
    ----------
    settings : Settings
    **further
        Options that no settings have.

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
        **further,
    )


def where_it_runs(settings: Settings) -> dict[str, Any]:
    """Say for the ledger which function the calls are made to: the bill finds them by that.

    Parameters
    ----------
    settings : Settings

    Returns
    -------
    dict
        Empty if they are not made to Lambda.
    """
    from hstmap.account.run_calls import LambdaPlace
    from hstmap.aws.settings import SECTION, aws_settings

    if settings.is_local or settings.backend != SECTION:
        return {}
    aws = aws_settings(settings.lithops_config(), account_id="")
    place = LambdaPlace(aws.function, aws.region, aws.memory_mb, aws.architecture, aws.timeout_s)
    return place.as_fact()
