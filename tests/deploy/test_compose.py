"""deploy/compose.yaml: replicas as nginx.conf knows them, settings that exist, and safe containers."""

import re
from pathlib import Path

import pytest
import yaml

from service.settings import Settings

DEPLOY = Path(__file__).parents[2] / "deploy"
SERVICES = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
REPLICAS = [name for name in SERVICES if name.startswith("serve")]
NGINX = (DEPLOY / "nginx.conf").read_text()


def test_nginx_knows_each_replica_by_its_name():
    assert re.findall(r"server ([\w-]+):8000", NGINX) == REPLICAS
    assert re.findall(r"server ([\w-]+) \1:8000", (DEPLOY / "haproxy.cfg").read_text())[:2] == REPLICAS


def test_only_nginx_is_reached_from_outside_and_only_from_this_machine():
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    (listening,) = re.findall(r"listen (\d+);", NGINX)
    assert published == {"nginx": [f"127.0.0.1:8000:{listening}"]}


@pytest.mark.parametrize("name", REPLICAS)
def test_a_replica_has_settings_that_exist_and_time_to_stop(name):
    service = SERVICES[name]
    given = {
        key.removeprefix("RESNET_HEADS_").lower(): value for key, value in service["environment"].items()
    }
    settings = Settings(**given)
    assert settings.listen_when_ready
    grace_s = int(service["stop_grace_period"].removesuffix("s"))
    assert grace_s > settings.drain_delay_s + settings.drain_timeout_s


@pytest.mark.parametrize("name", [*REPLICAS, "nginx"])
def test_what_serves_may_do_little(name):
    service = SERVICES[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(volume.endswith(":ro") for volume in service["volumes"])


def test_the_limits_of_the_proxies_are_those_of_the_service():
    limit = str(Settings.model_fields["max_body_bytes"].default)
    keep_alive_s = Settings.model_fields["keep_alive_s"].default
    haproxy = (DEPLOY / "haproxy.cfg").read_text()
    assert re.findall(r"client_max_body_size (\d+)", NGINX) == [limit]
    assert re.findall(r"Content-Length\) gt (\d+)", haproxy) == [limit]
    idle_s = re.findall(r"(?:keepalive_timeout|pool-purge-delay) (\d+)s", NGINX + haproxy)
    assert len(idle_s) == 3
    assert all(int(one) < keep_alive_s for one in idle_s)
    timeout_s = Settings.model_fields["request_timeout_s"].default
    answers_s = re.findall(r"(?:proxy_read_timeout|timeout server) +(\d+)s", NGINX + haproxy)
    assert len(answers_s) == 4
    assert all(int(one) > timeout_s for one in answers_s)
