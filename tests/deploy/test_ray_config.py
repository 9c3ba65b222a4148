"""What deploys to Ray says of the service what the service is, as far as that shows without Ray."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import documents
import yaml

from service.benchmark.plan import Plan
from service.settings import Settings

ROOT = Path(__file__).parents[2]
CONFIG = yaml.safe_load((ROOT / "deploy/ray/serve.yaml").read_text())
HTTP = CONFIG["http_options"]
(APPLICATION,) = CONFIG["applications"]
(DEPLOYMENT,) = APPLICATION["deployments"]
ENVIRONMENT = APPLICATION["runtime_env"]["env_vars"]


def default(name):
    return Settings.model_fields[name].default


def test_the_environment_is_of_settings_that_take_those_values(monkeypatch):
    fields = {f"RESNET_HEADS_{name.upper()}" for name in Settings.model_fields}
    assert ENVIRONMENT.keys() <= fields
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    assert Settings().required_heads == ("gap", "flatten")
    assert Settings().store_dir.is_absolute()


def test_no_setting_is_given_that_means_nothing_on_ray():
    (idle,) = re.findall(r"^- (`host`.*?) mean nothing", documents.TEXT, re.MULTILINE | re.DOTALL)
    names = re.findall(r"`(\w+)`", idle)
    assert "port" in names
    assert set(names) <= set(Settings.model_fields)
    assert not {name.lower().removeprefix("resnet_heads_") for name in ENVIRONMENT} & set(names)


def test_ray_adds_a_replica_when_more_than_a_batch_is_under_way_in_each():
    scaling = DEPLOYMENT["autoscaling_config"]
    assert scaling["target_ongoing_requests"] == default("max_batch_size")
    assert 1 <= scaling["min_replicas"] < scaling["max_replicas"]


def test_the_service_refuses_before_ray_does():
    assert DEPLOYMENT["max_ongoing_requests"] == 4 * default("max_queued_images")
    assert DEPLOYMENT["max_queued_requests"] > 0
    assert DEPLOYMENT["backpressure_config"] == {"status_code": 429, "retry_after_s": 1}


def test_the_service_runs_out_of_time_before_ray_does():
    longest_s = default("body_timeout_s") + default("request_timeout_s")
    (bound,) = (one for one in Plan.model_fields["seconds"].metadata if hasattr(one, "le"))
    assert HTTP["request_timeout_s"] > max(longest_s, bound.le)
    assert DEPLOYMENT["graceful_shutdown_timeout_s"] > longest_s
    assert HTTP["keep_alive_timeout_s"] == default("keep_alive_s")


def test_it_listens_where_serve_would_and_on_every_address():
    assert (HTTP["host"], HTTP["port"]) == ("0.0.0.0", default("port"))  # noqa: S104 -- of the cluster


def test_the_wheel_brings_what_ray_imports(tmp_path):
    module, _, attribute = APPLICATION["import_path"].partition(":")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path]
    subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        source = files.read(f"{module}.py").decode()
        assert "service/app.py" in files.namelist()
    assert re.search(rf"^{attribute} = {DEPLOYMENT['name']}\.bind\(\)$", source, re.MULTILINE)


def test_the_deployment_is_small():
    module = ROOT / "deploy/ray/resnet_heads_ray.py"
    assert len(module.read_text().splitlines()) <= 80
