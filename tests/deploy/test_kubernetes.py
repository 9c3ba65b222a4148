"""The manifests are valid, agree with each other, and say of the server what the server is."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import documents
import kubernetes_validate
import pytest
import yaml
from pydantic import ValidationError

from service.serving.host import cpu_quota
from service.settings import Settings

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/kubernetes"
PREFIX = Settings.model_config["env_prefix"]
VERSIONS = ("1.31", "1.34")
KUBECTL = shutil.which("kubectl")


def read(name):
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text())


KUSTOMIZATION = read("kustomization")
DEPLOYMENT = read("deployment")
TEMPLATE = DEPLOYMENT["spec"]["template"]
POD = TEMPLATE["spec"]
(SERVE,) = POD["containers"]
(INIT,) = POD["initContainers"]
RESOURCES = sorted(set(FOLDER.glob("*.yaml")) - {FOLDER / "kustomization.yaml"})


def environment(container):
    return {entry["name"]: entry for entry in container.get("env", [])}


def setting(name):
    """What the server gets: the manifest's value, else the default."""
    default = Settings.model_fields[name].default
    return environment(SERVE).get(PREFIX + name.upper(), {"value": default})["value"]


def is_valid(document):
    for version in VERSIONS:
        kubernetes_validate.validate(document, version, strict=True)
    return True


def on_a_claim(manifest):
    """The deployment on a volume that all pods share, changed as docs/deploy.md says."""
    old, new = re.search(r"replace\s+`(emptyDir.*?)` by\s+`(.*?)`", documents.TEXT, re.DOTALL).groups()
    assert manifest.count(old) == 1
    return yaml.safe_load(manifest.replace(old, new))


@pytest.mark.parametrize("path", RESOURCES, ids=lambda path: path.stem)
def test_every_resource_is_valid_and_has_no_unknown_field(path):
    documents = list(yaml.safe_load_all(path.read_text()))
    assert len(documents) == 1
    assert is_valid(documents[0])


def test_what_is_misspelt_would_be_found():
    wrong = read("deployment")
    wrong["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        is_valid(wrong)


def test_the_kustomization_lists_every_file():
    assert sorted(KUSTOMIZATION["resources"]) == [path.name for path in RESOURCES]


def test_every_image_is_a_target_of_the_dockerfile_under_a_name_that_can_be_changed():
    targets = set(re.findall(r"^FROM .* AS (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    renamed = {image["name"]: image["newTag"] for image in KUSTOMIZATION["images"]}
    assert {SERVE["image"], INIT["image"]} == set(renamed)
    assert set(renamed.values()) <= targets
    assert (SERVE["image"], INIT["image"]) == ("serve", "full")


def test_kustomize_renames_the_images_and_changes_nothing_else():
    if not KUBECTL:
        assert not os.environ.get("RESNET_HEADS_NO_SKIP"), "no kubectl, and nothing may be skipped here"
        pytest.skip("kubectl, which holds kustomize, is not installed")
    command = [KUBECTL, "kustomize", FOLDER]
    built = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    expected = {path.stem: read(path.stem) for path in RESOURCES}
    pod = expected["deployment"]["spec"]["template"]["spec"]
    pod["containers"][0]["image"] = "resnet-heads:serve"
    pod["initContainers"][0]["image"] = "resnet-heads:full"

    def ordered(documents):
        return sorted(json.dumps(document, sort_keys=True) for document in documents)

    assert ordered(yaml.safe_load_all(built)) == ordered(expected.values())


@pytest.mark.parametrize("container", [INIT, SERVE], ids=["init", "serve"])
def test_every_environment_variable_is_a_setting(container):
    names = {name.lower() for name in environment(container)}
    assert names <= {PREFIX.lower() + field for field in Settings.model_fields}


def test_the_values_are_ones_that_the_settings_take(monkeypatch):
    for name, entry in environment(SERVE).items():
        monkeypatch.setenv(name, entry.get("value", "a,b"))
    assert Settings().required_heads == ("gap", "flatten")


def test_keys_come_from_a_mounted_secret_that_is_not_in_the_repository():
    (mount,) = (mount for mount in SERVE["volumeMounts"] if mount["name"] == "keys")
    (volume,) = (volume for volume in POD["volumes"] if volume["name"] == "keys")
    assert mount == {"name": "keys", "mountPath": "/keys", "readOnly": True}
    assert "Secret" not in {read(path.stem)["kind"] for path in RESOURCES}
    assert not volume["secret"].get("optional"), "without it, nobody would need a key"
    (told,) = documents.commands(f"kubectl create secret generic {volume['secret']['secretName']} ")
    for name in ("api_keys_file", "admin_key_file"):
        folder, _, key = setting(name).rpartition("/")
        assert folder == mount["mountPath"]
        assert f"--from-literal={key}=" in told


def test_the_variables_of_service_links_would_stop_the_server_and_are_off(monkeypatch):
    link = read("service")["metadata"]["name"].upper().replace("-", "_") + "_PORT"
    monkeypatch.setenv(link, "tcp://10.0.0.1:80")
    with pytest.raises(ValidationError):
        Settings()
    assert POD["enableServiceLinks"] is False


def test_ports_are_the_server_s():
    (port,) = SERVE["ports"]
    assert port["containerPort"] == setting("port")
    (service,) = read("service")["spec"]["ports"]
    assert service["targetPort"] == port["name"]


def test_the_image_listens_beyond_its_own_loopback():
    assert "RESNET_HEADS_HOST=0.0.0.0" in (ROOT / "Dockerfile").read_text()
    assert PREFIX + "HOST" not in environment(SERVE)


def test_probes_and_scrapes_ask_routes_that_exist_and_need_no_key():
    routes = yaml.safe_load((ROOT / "openapi.yaml").read_text())["paths"]
    for kind, path in {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}.items():
        probe = SERVE[f"{kind}Probe"]["httpGet"]
        assert probe == {"path": path, "port": SERVE["ports"][0]["name"]}
        assert "get" in routes[path]
        assert "401" not in routes[path]["get"]["responses"]
    scrape = TEMPLATE["metadata"]["annotations"]
    assert "get" in routes[scrape["prometheus.io/path"]]
    assert scrape["prometheus.io/port"] == str(setting("port"))
    assert setting("open_metrics") is True


def test_every_selector_means_these_pods_and_every_target_this_deployment():
    labels = TEMPLATE["metadata"]["labels"]
    selectors = [
        DEPLOYMENT["spec"]["selector"]["matchLabels"],
        read("disruption-budget")["spec"]["selector"]["matchLabels"],
        read("service")["spec"]["selector"],
        *(spread["labelSelector"]["matchLabels"] for spread in POD["topologySpreadConstraints"]),
    ]
    assert all(selector == labels for selector in selectors)
    assert read("autoscaler")["spec"]["scaleTargetRef"] == {
        "apiVersion": DEPLOYMENT["apiVersion"],
        "kind": DEPLOYMENT["kind"],
        "name": DEPLOYMENT["metadata"]["name"],
    }


def test_the_autoscaler_alone_says_how_many_and_one_may_always_go():
    scaler, budget = read("autoscaler")["spec"], read("disruption-budget")["spec"]
    assert "replicas" not in DEPLOYMENT["spec"]
    assert 2 <= scaler["minReplicas"] < scaler["maxReplicas"]
    assert budget["maxUnavailable"] < scaler["minReplicas"]
    assert DEPLOYMENT["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    (metric,) = scaler["metrics"]
    assert metric["resource"]["name"] in SERVE["resources"]["requests"], "a share of what?"


def test_the_pod_runs_as_the_user_of_the_image_and_owns_its_volumes():
    (user,) = re.findall(r"useradd .*--uid (\d+)", (ROOT / "Dockerfile").read_text())
    security = POD["securityContext"]
    assert security["runAsUser"] == security["fsGroup"] == int(user)


@pytest.mark.parametrize("container", [INIT, SERVE], ids=["init", "serve"])
def test_the_pod_security_standard_restricted_is_met_on_a_read_only_root(container):
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert POD["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert POD["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }


def test_both_mount_the_store_and_tmp_where_the_image_looks_for_them():
    dockerfile = (ROOT / "Dockerfile").read_text()
    store = re.search(r"RESNET_HEADS_STORE_DIR=(\S+)", dockerfile)[1]
    tmp = "/tmp"  # noqa: S108 -- the container's own
    assert re.search(r"RESNET_HEADS_CACHE_DIR=(\S+)", dockerfile)[1].startswith(f"{tmp}/")
    for container, read_only in ((INIT, False), (SERVE, True)):
        mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
        assert set(mounts) - {"keys"} == {volume["name"] for volume in POD["volumes"]} - {"keys"}
        assert mounts["store"]["mountPath"] == store
        assert mounts["tmp"]["mountPath"] == tmp
        assert mounts["store"].get("readOnly", False) is read_only


def test_the_store_may_be_a_claim_as_the_documents_say():
    changed = on_a_claim((FOLDER / "deployment.yaml").read_text())
    assert is_valid(changed)
    volumes = {volume["name"]: volume for volume in changed["spec"]["template"]["spec"]["volumes"]}
    assert list(volumes["store"]) == ["name", "persistentVolumeClaim"]
    assert list(volumes["tmp"]) == ["name", "emptyDir"]


def test_the_init_container_is_a_command_of_ours():
    from service.cli.arguments import parser
    from service.cli.main import COMMANDS

    arguments = parser(COMMANDS).parse_args(INIT["args"])
    assert arguments.if_empty
    assert arguments.weights == "imagenet", "pods without a network would each build another demo"


def test_there_is_time_to_drain_before_the_pod_is_killed():
    drain_s = setting("drain_delay_s") + setting("drain_timeout_s")
    assert POD["terminationGracePeriodSeconds"] > drain_s
    assert "lifecycle" not in SERVE, "it drains by itself"


def test_the_threads_are_the_cpu_limit(tmp_path):
    limit = int(SERVE["resources"]["limits"]["cpu"])
    (tmp_path / "cpu.max").write_text(f"{limit * 100_000} 100000\n")  # what the kubelet writes
    assert cpu_quota(tmp_path / "no-proc", tmp_path) == limit
    assert setting("threads") == 0, "the quota decides"
