"""Prices as AWS publishes them: the offer files of its Price List become a `PriceTable`.

Each service has an index of regions, and for each region a file with products and their terms:
https://docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/using-the-aws-price-list-bulk-api.html.
They are read without an account.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from hstmap.aws.price_table import PriceTable, load_prices
from hstmap.errors import PriceListError, UsageError

__all__ = ["PRICE_LIST_URL", "fetch_prices", "prices_as_json"]

PRICE_LIST_URL: Final = "https://pricing.us-east-1.amazonaws.com"
_INDEX: Final = "/offers/v1.0/aws/{service}/current/region_index.json"
_CONNECT_S, _READ_S = 20.0, 120.0
_N_RETRIES: Final = 3
#: Before a usage type, the region that it is of: USE1-, EU-, APN1-; none in the oldest region.
_REGION_MARK: Final = r"(?:[A-Z]{2,4}\d?-)?"
_BETWEEN_REGIONS: Final = r"[A-Z]{2,4}\d?-(?:[A-Z]{2,4}\d?-)?AWS-Out-Bytes"


@dataclass(frozen=True)
class _Dimension:
    """One step of a product's price: from how much of it on, up to how much, US dollars a unit."""

    begin: float
    end: float
    usd: float


class _Offer:
    """The products of a service in a region, with their prices on demand.

    Parameters
    ----------
    service, url : str
    content : mapping
        Of the file.
    """

    def __init__(self, service: str, url: str, content: Mapping[str, Any]) -> None:
        self.service = service
        self.url = url
        try:
            self.date = str(content["publicationDate"])[:10]
            self._products: Mapping[str, Any] = content["products"]
            self._terms: Mapping[str, Any] = content["terms"]["OnDemand"]
        except (KeyError, TypeError) as error:
            raise self._damaged(f"has no {error}") from error

    def _damaged(self, what: str) -> PriceListError:
        return PriceListError(f"the offer of {self.service} at {self.url} {what}")

    def _dimensions(self, pattern: str, **attributes: str) -> Iterator[_Dimension]:
        """Find the prices of the products whose usage type is matched."""
        try:
            for sku, product in self._products.items():
                facts = product["attributes"]
                if not re.fullmatch(pattern, facts.get("usagetype", "")):
                    continue
                if any(facts.get(name) != value for name, value in attributes.items()):
                    continue
                for term in self._terms.get(sku, {}).values():
                    for item in term["priceDimensions"].values():
                        yield _Dimension(
                            float(item.get("beginRange", 0)),
                            float(item.get("endRange", math.inf)),
                            float(item["pricePerUnit"]["USD"]),
                        )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise self._damaged(f"is not as AWS writes them: {error!r}") from error

    def first_usd(self, usage: str, **attributes: str) -> float:
        """Give the price of the first units of a usage type that are not free.

        Parameters
        ----------
        usage : str
            Without the region.
        **attributes : str
            That the product must have.

        Returns
        -------
        float

        Raises
        ------
        PriceListError
            If there is none.
        """
        pattern = _REGION_MARK + re.escape(usage)
        priced = [item for item in self._dimensions(pattern, **attributes) if item.usd > 0]
        if not priced:
            raise self._damaged(f"has no price of {usage}")
        return min(priced, key=lambda item: item.begin).usd

    def free(self, usage: str) -> float | None:
        """Say how much of a usage type is free each month, if the offer says so."""
        free = [item.end for item in self._dimensions(f"Global-{re.escape(usage)}")
                if item.usd == 0 and math.isfinite(item.end)]  # fmt: skip
        return max(free, default=None)

    def dearest_usd(self, pattern: str) -> float:
        """Give the highest price of the products whose usage type is matched."""
        prices = [item.usd for item in self._dimensions(pattern)]
        if not prices:
            raise self._damaged(f"has no price of {pattern}")
        return max(prices)


def fetch_prices(
    region: str, url: str = PRICE_LIST_URL, on_file: Callable[[str], None] = lambda _: None
) -> PriceTable:
    """Read what AWS charges now from its Price List.

    Parameters
    ----------
    region : str
    url : str
        Of the Price List.
    on_file : callable
        Told of each file before it is fetched.

    Returns
    -------
    PriceTable
        Dated by the newest of its offers. What no offer tells is that of the table that comes with
        hstmap: how durations are rounded, that INIT is billed, what of logs is free. Egress to
        other regions is that to the dearest one.

    Raises
    ------
    PriceListError
        If an offer cannot be had or lacks a price.
    UsageError
        If AWS does not offer a service in the region.
    """
    client = _Client(url, on_file)
    functions, objects, logs, transfer = (
        client.offer(service, region)
        for service in ("AWSLambda", "AmazonS3", "AmazonCloudWatch", "AWSDataTransfer")
    )
    offers = (functions, objects, logs, transfer)
    base = load_prices()
    date = max(offer.date for offer in offers)
    tier_1 = objects.first_usd("Requests-Tier1")
    return replace(
        base,
        name=f"{region}-{date}",
        region=region,
        date=date,
        sources=tuple(offer.url for offer in offers),
        lambda_gb_s_usd={
            "x86_64": functions.first_usd("Lambda-GB-Second"),
            "arm64": functions.first_usd("Lambda-GB-Second-ARM"),
        },
        lambda_request_usd=functions.first_usd("Request"),
        lambda_ephemeral_gb_s_usd=functions.first_usd("Lambda-Storage-GB-Second"),
        lambda_free_requests=functions.free("Request") or base.lambda_free_requests,
        lambda_free_gb_s=functions.free("Lambda-GB-Second") or base.lambda_free_gb_s,
        s3_put_usd=tier_1,
        s3_list_usd=tier_1,
        s3_get_usd=objects.first_usd("Requests-Tier2"),
        s3_gb_month_usd=objects.first_usd("TimedStorage-ByteHrs", volumeType="Standard"),
        logs_gb_usd=logs.first_usd("DataProcessing-Bytes"),
        egress_internet_gb_usd=transfer.first_usd("DataTransfer-Out-Bytes"),
        egress_regions_gb_usd=transfer.dearest_usd(_BETWEEN_REGIONS),
    )


class _Client:
    """Asks the Price List.

    Parameters
    ----------
    url : str
    on_file : callable
    """

    def __init__(self, url: str, on_file: Callable[[str], None]) -> None:
        import requests
        from requests.adapters import HTTPAdapter
        from urllib3.util import Retry

        self._url = url.rstrip("/")
        self._on_file = on_file
        self._session = requests.Session()
        retries = Retry(
            _N_RETRIES, connect=1, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504)
        )
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=retries))

    def offer(self, service: str, region: str) -> _Offer:
        """Fetch what a service costs in a region now."""
        index = self._fetch(_INDEX.format(service=service))
        regions = index.get("regions")
        if not isinstance(regions, dict):
            raise PriceListError(f"{self._url}: the index of {service} has no regions")
        if region not in regions:
            raise UsageError(
                f"AWS does not offer {service} in {region!r}; "
                f"it does in {', '.join(sorted(regions)[:8])}, ..."
            )
        path = str(regions[region].get("currentVersionUrl", ""))
        return _Offer(service, self._url + path, self._fetch(path))

    def _fetch(self, path: str) -> dict[str, Any]:
        """Fetch a file of JSON."""
        import requests

        url = self._url + path
        self._on_file(url)
        try:
            answer = self._session.get(url, timeout=(_CONNECT_S, _READ_S))
            answer.raise_for_status()
            content = answer.json()
        except requests.JSONDecodeError as error:
            raise PriceListError(f"{url} is damaged, or no JSON: {error}") from error
        except requests.RequestException as error:
            raise PriceListError(f"{url} cannot be had: {error}") from error
        if not isinstance(content, dict):
            raise PriceListError(f"{url} is a {type(content).__name__}, expected an offer or index")
        return content


def prices_as_json(prices: PriceTable) -> str:
    """Write a table as a file of prices.

    Parameters
    ----------
    prices : PriceTable

    Returns
    -------
    str
        JSON; `~hstmap.aws.price_table.load_prices` reads it.
    """
    record = asdict(prices) | {"lambda_gb_s_usd": dict(prices.lambda_gb_s_usd)}
    return json.dumps(record, indent=2) + "\n"
