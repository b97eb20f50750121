"""Published prices become a table: read from a server that has files of AWS's shape."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from hstmap.aws.price_list import fetch_prices, prices_as_json
from hstmap.aws.price_table import load_prices
from hstmap.cli import main
from hstmap.errors import PriceListError, UsageError

REGION = "eu-west-2"
BASE = load_prices()


def offer(service: str, date: str, *products: tuple[str, dict[str, str], Any]) -> dict[str, Any]:
    """An offer file: usage types with further attributes and steps of (begin, end, USD)."""
    content: dict[str, Any] = {
        "formatVersion": "v1.0",
        "disclaimer": "This pricing list is for informational purposes only.",
        "offerCode": service,
        "version": "20261001000000",
        "publicationDate": f"{date}T00:00:00Z",
        "products": {},
        "terms": {"OnDemand": {}},
    }
    for number, (usage, attributes, steps) in enumerate(products):
        sku = f"{service[:4].upper()}{number:04d}"
        content["products"][sku] = {
            "sku": sku,
            "productFamily": "Serverless",
            "attributes": {
                "servicecode": service, "locationType": "AWS Region", "usagetype": usage,
            } | attributes,
        }  # fmt: skip
        content["terms"]["OnDemand"][sku] = {
            f"{sku}.JRTCKXETXF": {
                "offerTermCode": "JRTCKXETXF",
                "sku": sku,
                "effectiveDate": "2026-10-01T00:00:00Z",
                "priceDimensions": {
                    f"{sku}.JRTCKXETXF.{i}": {
                        "rateCode": f"{sku}.JRTCKXETXF.{i}",
                        "unit": "Lambda-GB-Second",
                        "beginRange": begin,
                        "endRange": end,
                        "pricePerUnit": {"USD": usd},
                        "appliesTo": [],
                    }
                    for i, (begin, end, usd) in enumerate(steps)
                },
                "termAttributes": {},
            }
        }
    return content


def flat(usd: str) -> list[tuple[str, str, str]]:
    return [("0", "Inf", usd)]


def offers() -> dict[str, dict[str, Any]]:
    """Four offers of a region, with what is beside the prices that count."""
    return {
        "AWSLambda": offer(
            "AWSLambda", "2026-10-05",
            ("EUW2-Lambda-GB-Second", {"group": "AWS-Lambda-Duration"},
             [("6000000000", "15000000000", "0.0000150000"), ("0", "6000000000", "0.0000171667"),
              ("15000000000", "Inf", "0.0000133334")]),
            ("EUW2-Lambda-GB-Second-ARM", {"group": "AWS-Lambda-Duration-ARM"}, flat("0.0000137")),
            ("EUW2-Request", {"group": "AWS-Lambda-Requests"}, flat("0.0000002100")),
            ("EUW2-Lambda-Edge-Request", {}, flat("0.0000006000")),
            ("EUW2-Lambda-Provisioned-GB-Second", {}, flat("0.0000097222")),
            ("EUW2-Lambda-Storage-GB-Second", {}, flat("0.0000000358")),
            ("Global-Request", {"location": "Any"}, [("0", "1000000", "0")]),
            ("Global-Lambda-GB-Second", {"location": "Any"}, [("0", "400000", "0")]),
        ),
        "AmazonS3": offer(
            "AmazonS3", "2026-10-20",
            ("EUW2-Requests-Tier1", {}, flat("0.0000053000")),
            ("EUW2-Requests-Tier2", {}, flat("0.0000004200")),
            ("EUW2-Requests-SIA-Tier1", {}, flat("0.0000100000")),
            ("EUW2-TimedStorage-ByteHrs", {"volumeType": "Glacier Deep Archive"}, flat("0.0018")),
            ("EUW2-TimedStorage-ByteHrs", {"volumeType": "Standard"},
             [("0", "51200", "0.0240000000"), ("51200", "Inf", "0.0230000000")]),
        ),
        "AmazonCloudWatch": offer(
            "AmazonCloudWatch", "2026-09-01",
            ("EUW2-DataProcessing-Bytes", {"group": "Ingested Logs"}, flat("0.5985")),
            ("EUW2-VendedLog-Bytes", {}, flat("0.2500000000")),
        ),
        "AWSDataTransfer": offer(
            "AWSDataTransfer", "2026-09-16",
            ("EUW2-DataTransfer-Out-Bytes", {},
             [("0", "100", "0"), ("100", "10240", "0.0900000000"), ("10240", "Inf", "0.085")]),
            ("EUW2-USE1-AWS-Out-Bytes", {}, flat("0.0200000000")),
            ("EUW2-APN1-AWS-Out-Bytes", {}, flat("0.0300000000")),
            ("EUW2-USE1-AWS-In-Bytes", {}, flat("0.7")),
        ),
    }  # fmt: skip


@dataclass
class PriceServer:
    """A Price List of this machine's own."""

    url: str = ""
    offers: dict[str, dict[str, Any]] = field(default_factory=offers)
    answers: dict[str, bytes | int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def answer(self, path: str) -> bytes | int:
        """The content of a file, or the status in its place."""
        self.asked.append(path)
        for part, answer in self.answers.items():
            if part in path:
                return answer
        service = path.split("/")[4]
        if path.endswith("region_index.json"):
            version = f"/offers/v1.0/aws/{service}/20261001000000/{REGION}/index.json"
            regions = {REGION: {"regionCode": REGION, "currentVersionUrl": version}}
            return json.dumps({"formatVersion": "v1.0", "regions": regions}).encode()
        return json.dumps(self.offers[service]).encode()


@pytest.fixture
def server() -> Iterator[PriceServer]:
    """It, serving."""
    prices = PriceServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = prices.answer(self.path)
            self.send_response(answer if isinstance(answer, int) else 200)
            body = b"" if isinstance(answer, int) else answer
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        prices.url = f"http://127.0.0.1:{http.server_address[1]}"
        yield prices
        http.shutdown()
        thread.join()


def test_every_price_is_that_of_its_product(server):
    prices = fetch_prices(REGION, server.url)
    assert (prices.region, prices.date, prices.name) == (
        REGION,
        "2026-10-20",
        f"{REGION}-2026-10-20",
    )
    assert prices.lambda_gb_s_usd == {"x86_64": 0.0000171667, "arm64": 0.0000137}  # first steps
    assert prices.lambda_request_usd == 0.00000021
    assert prices.lambda_ephemeral_gb_s_usd == 0.0000000358
    assert (prices.lambda_free_requests, prices.lambda_free_gb_s) == (1_000_000, 400_000)
    assert prices.s3_put_usd == prices.s3_list_usd == 0.0000053
    assert prices.s3_get_usd == 0.00000042
    assert prices.s3_gb_month_usd == 0.024
    assert prices.logs_gb_usd == 0.5985
    assert prices.egress_internet_gb_usd == 0.09  # of what is not free
    assert prices.egress_regions_gb_usd == 0.03  # the dearest
    # What no offer tells.
    assert prices.lambda_granularity_ms == BASE.lambda_granularity_ms
    assert prices.lambda_init_billed
    assert prices.logs_free_gb == BASE.logs_free_gb
    assert len(prices.sources) == 4
    assert all(source.startswith(server.url) for source in prices.sources)
    assert len(server.asked) == 8


def test_the_oldest_region_has_no_mark(server):
    for content in server.offers.values():
        for product in content["products"].values():
            usage = product["attributes"]["usagetype"]
            product["attributes"]["usagetype"] = usage.removeprefix("EUW2-")
    prices = fetch_prices(REGION, server.url)
    assert prices.lambda_request_usd == 0.00000021
    assert prices.egress_regions_gb_usd == 0.03


def test_a_free_tier_that_no_offer_tells_is_the_known_one(server):
    products = server.offers["AWSLambda"]["products"]
    for sku in [sku for sku, item in products.items()
                if item["attributes"]["usagetype"].startswith("Global")]:  # fmt: skip
        del products[sku]
    prices = fetch_prices(REGION, server.url)
    assert prices.lambda_free_gb_s == BASE.lambda_free_gb_s


def test_a_file_of_prices_reads_back_as_it_was(server, tmp_path):
    prices = fetch_prices(REGION, server.url)
    (tmp_path / "mine.json").write_text(prices_as_json(prices))
    assert load_prices(str(tmp_path / "mine.json")) == prices


@pytest.mark.parametrize(
    ("part", "answer", "words"),
    [
        ("AmazonS3/current", 404, "AmazonS3.*cannot be had.*404"),
        ("AWSLambda/2026", b'{"products": {', "AWSLambda.*is damaged, or no JSON"),
        ("AWSLambda/2026", b"[]", "is a list"),
        ("AWSLambda/current", b"{}", "index of AWSLambda has no regions"),
        ("AmazonCloudWatch/2026", b'{"publicationDate": "2026-01-01"}', "has no 'products'"),
        (
            "AmazonCloudWatch/2026",
            b'{"publicationDate": "2026-01-01", "products": {}, "terms": {"OnDemand": {}}}',
            "AmazonCloudWatch.*has no price of DataProcessing-Bytes",
        ),
        (
            "AmazonCloudWatch/2026",
            b'{"publicationDate": "2026-01-01", "products": {"A": 3}, "terms": {"OnDemand": {}}}',
            "is not as AWS writes them",
        ),
    ],
)
def test_what_is_damaged_or_missing_is_named(server, part, answer, words):
    server.answers[part] = answer
    with pytest.raises(PriceListError, match=words):
        fetch_prices(REGION, server.url)


def test_a_price_in_another_currency_is_no_price(server):
    for term in server.offers["AmazonS3"]["terms"]["OnDemand"].values():
        for item in term.values():
            for dimension in item["priceDimensions"].values():
                dimension["pricePerUnit"] = {"CNY": "1.00"}
    with pytest.raises(PriceListError, match=r"AmazonS3.*'USD'"):
        fetch_prices(REGION, server.url)


def test_a_region_that_aws_does_not_have_is_refused(server):
    with pytest.raises(
        UsageError, match="does not offer AWSLambda in 'mars-1'; it does in eu-west"
    ):
        fetch_prices("mars-1", server.url)


def test_a_server_that_is_not_there_is_one_line():
    with pytest.raises(PriceListError, match="cannot be had"):
        fetch_prices(REGION, "http://127.0.0.1:9")


# -- the command ---------------------------------------------------------------------------------


def test_the_command_fetches_what_plan_takes(server, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["prices", "--region", REGION, "--url", server.url]) == 0
    shown = capsys.readouterr().out
    name = f"{REGION}-2026-10-20.json"
    assert shown.splitlines()[-1] == f"prices    {REGION}, 2026-10-20: {name}"
    assert shown.count("fetch ") == 8
    assert main(["plan", "--images", "100", "--workers", "10", "--prices", name]) == 0
    assert f"prices {REGION}-2026-10-20" in capsys.readouterr().out


def test_the_command_lists_the_tables_that_come_along(capsys):
    assert main(["prices"]) == 0
    assert "us-east-1-2018" in capsys.readouterr().out


def test_a_fault_is_one_line_and_leaves_no_file(server, tmp_path, capsys):
    server.answers["AmazonS3/2026"] = b"<html>"
    out = tmp_path / "mine.json"
    assert main(["prices", "--region", REGION, "--url", server.url, "-o", str(out)]) == 2
    error = capsys.readouterr().err
    assert len(error.strip().splitlines()) == 1
    assert "AmazonS3" in error
    assert not out.exists()
    assert main(["prices", "--url", server.url]) == 2
