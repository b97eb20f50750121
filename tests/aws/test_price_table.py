from __future__ import annotations

import dataclasses
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstmap.aws.price_table import DEFAULT_PRICES, load_prices, price_names
from hstmap.errors import UsageError

NOW = load_prices()
THEN = load_prices("us-east-1-2018")


def test_the_function_of_2018_cost_what_it_said():
    """1,060.45 ms of 1,024 MB, billed 1,100 ms: $0.0018337 for 100 images, $2.24 for them all."""
    gb_s = THEN.billed_ms(1060.45, 512.10) / 1000 * 1024 / 1024
    assert THEN.billed_ms(1060.45, 512.10) == 1100
    per_image = gb_s * THEN.lambda_gb_s_usd["x86_64"]
    assert round(per_image * 100, 7) == 0.0018337
    assert round(per_image * 122_078, 2) == 2.24


def test_today_it_would_cost_less_and_init_would_count():
    assert NOW.billed_ms(1060.45) == 1061
    assert NOW.billed_ms(1060.45, 512.10) == 1573
    compute = 1.06 * 122_078 * NOW.lambda_gb_s_usd["x86_64"]
    assert round(compute, 2) == 2.16
    assert round(122_078 * NOW.s3_put_usd, 2) == 0.61


@given(duration=st.integers(0, 900_000_000), init=st.integers(0, 10_000_000))
def test_durations_are_rounded_up(duration, init):
    duration, init = duration / 1000, init / 1000
    for prices in (NOW, THEN):
        billed = prices.billed_ms(duration, init)
        counted = duration + (init if prices.lambda_init_billed else 0)
        assert billed % prices.lambda_granularity_ms == 0
        assert counted - 1e-6 < billed < counted + prices.lambda_granularity_ms + 1e-6


def test_every_table_that_comes_along_can_be_read():
    assert DEFAULT_PRICES in price_names()
    for name in price_names():
        prices = load_prices(name)
        assert prices.name == name
        assert prices.sources
        assert all(source.startswith("https://") for source in prices.sources)
        numbers = [v for v in dataclasses.astuple(prices) if isinstance(v, float)]
        assert all(math.isfinite(number) and number >= 0 for number in numbers)


def test_a_table_of_ones_own_is_read_from_its_file(tmp_path):
    record = {**dataclasses.asdict(NOW), "lambda_gb_s_usd": {"arm64": 1.0}, "name": "mine"}
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(record))
    assert load_prices(str(path)).lambda_gb_s_usd["arm64"] == 1.0


@pytest.mark.parametrize(
    ("content", "message"),
    [("{}", "lack name"), ("[]", "not a JSON object"), ("{", "not a JSON object")],
)
def test_what_is_no_price_table_is_refused(tmp_path, content, message):
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=message):
        load_prices(str(path))
    with pytest.raises(UsageError, match="us-east-1-2026"):
        load_prices("us-west-2-2026")
