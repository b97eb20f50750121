"""What AWS charges, as data: a file for each region and date, never a number in the code."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from hstmap.errors import UsageError

__all__ = ["DEFAULT_PRICES", "PriceTable", "load_prices", "price_names"]

DEFAULT_PRICES: Final = "us-east-1-2026"


@dataclass(frozen=True)
class PriceTable:
    """List prices of one region at one date, US dollars.

    Attributes
    ----------
    name, region, date : str
    sources : tuple of str
        Where the prices were published.
    lambda_gb_s_usd : mapping of str to float
        A GB-second by architecture.
    lambda_request_usd : float
    lambda_ephemeral_gb_s_usd : float
        A GB-second of ``/tmp`` beyond the first 512 MB.
    lambda_granularity_ms : int
        Durations are rounded up to whole multiples of this.
    lambda_init_billed : bool
        Whether the INIT phase counts.
    lambda_free_requests, lambda_free_gb_s : float
        Free each month.
    s3_put_usd, s3_list_usd, s3_get_usd : float
        A request.
    s3_gb_month_usd : float
    logs_gb_usd, logs_free_gb : float
        Taken in by CloudWatch Logs, and free each month.
    egress_internet_gb_usd, egress_regions_gb_usd : float
        A GB that leaves the region, to the internet and to another region.
    """

    name: str
    region: str
    date: str
    sources: tuple[str, ...]
    lambda_gb_s_usd: Mapping[str, float]
    lambda_request_usd: float
    lambda_ephemeral_gb_s_usd: float
    lambda_granularity_ms: int
    lambda_init_billed: bool
    lambda_free_requests: float
    lambda_free_gb_s: float
    s3_put_usd: float
    s3_list_usd: float
    s3_get_usd: float
    s3_gb_month_usd: float
    logs_gb_usd: float
    logs_free_gb: float
    egress_internet_gb_usd: float
    egress_regions_gb_usd: float

    def billed_ms(self, duration_ms: float, init_ms: float = 0.0) -> int:
        """Round a duration as Lambda bills it.

        Parameters
        ----------
        duration_ms : float
        init_ms : float
            Of a cold start; counts only where INIT is billed.

        Returns
        -------
        int
        """
        total = duration_ms + (init_ms if self.lambda_init_billed else 0.0)
        # REPORT lines give hundredths of a millisecond; what lies below is the sum's rounding.
        n_units = math.ceil(round(total / self.lambda_granularity_ms, 6))
        return n_units * self.lambda_granularity_ms


def price_names() -> list[str]:
    """List the price tables that come with hstmap.

    Returns
    -------
    list of str
    """
    folder = files("hstmap.aws") / "prices"
    return sorted(item.name.removesuffix(".json") for item in folder.iterdir())


def load_prices(name: str = DEFAULT_PRICES) -> PriceTable:
    """Read a price table.

    Parameters
    ----------
    name : str
        One of `price_names`, or the path of a file like them.

    Returns
    -------
    PriceTable

    Raises
    ------
    UsageError
        If there is no such table, or it lacks a price.
    """
    if name in price_names():
        text = (files("hstmap.aws") / "prices" / f"{name}.json").read_text(encoding="utf-8")
    else:
        try:
            text = Path(name).read_text(encoding="utf-8")
        except OSError as error:
            raise UsageError(
                f"there are no prices {name!r}; give {', '.join(price_names())} or a file"
            ) from error
    try:
        record: dict[str, Any] = json.loads(text)
        known = {item.name: record[item.name] for item in fields(PriceTable)}
    except (ValueError, TypeError) as error:
        raise UsageError(f"the prices {name!r} are not a JSON object: {error}") from error
    except KeyError as error:
        raise UsageError(f"the prices {name!r} lack {error.args[0]}") from error
    known["sources"] = tuple(known["sources"])
    return PriceTable(**known)
