from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from hstmap.config import CONFIG_FILE, Settings, load_settings
from hstmap.errors import UsageError

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LITHOPS_CONFIG_FILE", raising=False)


def test_without_a_file_it_runs_on_this_machine():
    settings = load_settings()
    assert (settings.engine, settings.backend, settings.file) == ("lithops", "localhost", "")


def test_the_file_of_the_repository_is_that_too():
    settings = load_settings(str(REPOSITORY / CONFIG_FILE))
    assert settings.backend == "localhost"
    assert settings.lithops["localhost"]["version"] == 1
    assert settings.lithops["lithops"]["storage"] == "localhost"
    # Ready to switch to AWS, and without a key in it.
    assert settings.lithops["aws_lambda"]["architecture"] == "arm64"
    assert "access_key" not in (REPOSITORY / CONFIG_FILE).read_text()
    assert "hstmap" not in settings.lithops


def test_a_file_here_comes_before_that_of_the_environment(tmp_path, monkeypatch):
    (tmp_path / "other.yaml").write_text("hstmap: {n_workers: 7}")
    monkeypatch.setenv("LITHOPS_CONFIG_FILE", str(tmp_path / "other.yaml"))
    assert load_settings().n_workers == 7
    (tmp_path / CONFIG_FILE).write_text("hstmap: {n_workers: 3}")
    assert load_settings().n_workers == 3
    assert load_settings("other.yaml").n_workers == 7


def test_memory_is_given_to_the_backend_in_its_own_words():
    settings = load_settings(str(REPOSITORY / CONFIG_FILE))
    chosen = settings.with_options(memory_mb=2048)
    assert chosen.lithops_config()["localhost"] == {"version": 1, "runtime_memory": 2048}
    assert settings.lithops_config() == settings.lithops
    assert "runtime_memory" not in settings.lithops["localhost"]


def test_options_come_before_the_file():
    settings = Settings(n_workers=3, retries=1)
    assert settings.with_options(n_workers=5, retries=None).n_workers == 5
    assert settings.with_options(n_workers=5, retries=None).retries == 1


def test_what_was_chosen_is_told_from_what_is_the_default(tmp_path):
    (tmp_path / CONFIG_FILE).write_text("hstmap: {timeout_s: 600.0, budget_usd: 1.5}")
    settings = load_settings()
    assert settings.timeout_s == Settings().timeout_s
    assert settings.budget_usd == 1.5
    assert settings.given == {"timeout_s", "budget_usd"}
    assert settings.with_options(retries=1, n_workers=None).given - settings.given == {"retries"}
    assert Settings().given == frozenset()


@pytest.mark.parametrize("text", ["0", "0.0", "null"])
def test_no_time_limit_can_be_chosen(tmp_path, text):
    (tmp_path / CONFIG_FILE).write_text(f"hstmap: {{timeout_s: {text}}}")
    for settings in (load_settings(), Settings().with_options(timeout_s=0.0)):
        assert settings.timeout_s is None
        assert "timeout_s" in settings.given


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "hstmap: {workers: 3}",
            "has workers; it may have batch_size, budget_usd, engine, memory_mb, n_workers, prices",
        ),
        ("hstmap: [1]", "must have sections"),
        ("hstmap: {n_workers: 0}", "n_workers is 0; give a whole number, 1 or more"),
        ("hstmap: {engine: dask}", "engine is 'dask'"),
        ("hstmap: {retries: -1}", "retries is -1"),
        ("hstmap: {memory_mb: 64}", "memory_mb is 64; give a whole number, 128 or more"),
        ("hstmap: {timeout_s: soon}", "timeout_s is 'soon'"),
        ("hstmap: {timeout_s: false}", "timeout_s is False"),
        ("hstmap: {timeout_s: -1}", "timeout_s is -1"),
        ("hstmap: {budget_usd: 0}", "budget_usd is 0; give US dollars above 0"),
        ("hstmap: {budget_usd: .inf}", "budget_usd is inf"),
        ("- a list", "must have sections"),
        ("lithops: 3", "must have sections"),
        ("a: [", "is not YAML"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path, content, message):
    (tmp_path / CONFIG_FILE).write_text(content)
    with pytest.raises(UsageError, match=message) as caught:
        load_settings()
    assert "\n" not in str(caught.value)


def test_a_file_that_was_named_must_be_there():
    with pytest.raises(UsageError, match=r"'no\.yaml' cannot be read: No such file"):
        load_settings("no.yaml")


def test_an_empty_file_is_as_none(tmp_path):
    (tmp_path / CONFIG_FILE).write_text("# nothing\n")
    assert load_settings().backend == "localhost"
    assert load_settings().file == CONFIG_FILE


def test_the_repositorys_file_is_plain_yaml():
    content = yaml.safe_load((REPOSITORY / CONFIG_FILE).read_text())
    assert set(content) == {"hstmap", "lithops", "localhost", "aws", "aws_lambda", "aws_s3"}
