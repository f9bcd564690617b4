"""The files for Kubernetes: what they say of softstate is what softstate takes, and what they refer to is there.

`.ci/run` has them validated strictly against the schemas of Kubernetes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import softstate
from softstate.auth.policy_file import read_policy
from softstate.cli import build
from softstate.cli.options.serve_options import config_of
from softstate.cli.processes.node_process import END_S_EXTRA
from softstate.client.url import parse_url
from softstate.server.config import ServerConfig
from softstate.server.config.server_config import FILE_KEYS
from softstate.server.http.routes import ROUTES
from tests.kit.code_map import ROOT

OPS = ROOT / "softstate" / "ops"
FILES = ("kubernetes.yaml", "kubernetes-sqlite.yaml")
CONFIG = "/etc/softstate/softstate.toml"
NEVER_BY_ITSELF = "0 0 1 1 *"


def objects(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((OPS / name).read_text(encoding="utf-8")))


def one(name: str, *kinds: str) -> dict[str, Any]:
    (found,) = (each for each in objects(name) if each["kind"] in kinds)
    return found


def pods(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """List the templates of pods of a file, each with the kind that it is of."""
    for each in objects(name):
        spec = each.get("spec", {}).get("jobTemplate", each).get("spec", {})
        if "template" in spec:
            yield each["kind"], spec["template"]


def node(name: str) -> dict[str, Any]:
    (found,) = (pod for kind, pod in pods(name) if kind != "CronJob")
    return found


def configuration(name: str) -> str:
    return str(one(name, "ConfigMap")["data"]["softstate.toml"])


@pytest.fixture(params=FILES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def parsed(words: list[str]) -> dict[str, Any]:
    """Read a command line as the command does, without running it. It fails for what the command does not take."""
    _, bound, ignored = build(words).parse_args(words, print_error=False, exit_on_error=False)
    assert ignored == {}
    return bound.arguments


def test_every_command_is_one_and_its_node_is_configured_as_it_says(name: str, tmp_path: Path) -> None:
    config = tmp_path / "softstate.toml"
    config.write_text(configuration(name))
    told: list[str] = []
    for _, pod in pods(name):
        (container,) = pod["spec"]["containers"]
        words = [str(config) if word == CONFIG else word for word in container["args"]]
        told.append(" ".join(words[:2]))
        arguments = parsed(words)
        if words[0] == "serve":
            made = config_of(arguments["options"], arguments.get("advanced") or parsed_defaults())
            (port,) = container["ports"]
            assert (made.host, made.port) == ("0.0.0.0", port["containerPort"])
            assert made.require_store
            store = made.store
            mounted = [mount["mountPath"] for mount in container["volumeMounts"]]
            assert Path(CONFIG).parent == Path(mounted[0])
            assert any(path in made.store for path in mounted[1:])
        elif words[1] == "create":
            assert words[2:] == [store], "it makes the store that nodes open"
        else:
            assert arguments["kill"] == "link", "it has no right to do more"
            (url,) = map(parse_url, arguments["url"])
            service = one(name, "Service")
            assert (url.host, url.port) == (service["metadata"]["name"], service["spec"]["ports"][0]["port"])
    assert told[0] == "serve --config"


def parsed_defaults() -> Any:
    from softstate.cli.options.serve_options import Advanced  # noqa: PLC0415 - a type to checkers, a class here

    return Advanced()


def test_its_rules_are_rules(name: str) -> None:
    policy = read_policy(configuration(name), name, FILE_KEYS).policy
    assert policy.issuers
    assert policy.allows


def test_pods_end_after_their_drain_and_run_as_nobody(name: str) -> None:
    for kind, pod in pods(name):
        spec = pod["spec"]
        (container,) = spec["containers"]
        # Of a Service called softstate there would be variables SOFTSTATE_…, and a node refuses what it does not know.
        assert spec["enableServiceLinks"] is False
        assert spec["securityContext"]["runAsNonRoot"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["image"].endswith(f":{softstate.__version__}")
        if kind != "CronJob":
            config = ServerConfig()
            ends_s = container["lifecycle"]["preStop"]["sleep"]["seconds"] + config.drain_s + config.store_s_max
            assert spec["terminationGracePeriodSeconds"] > ends_s + END_S_EXTRA


def test_probes_ask_for_paths_that_a_node_has(name: str) -> None:
    (container,) = node(name)["spec"]["containers"]
    paths = [container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")]
    assert paths == ["/healthz", "/healthz", "/readyz"]
    assert set(paths) <= ROUTES.keys()
    liveness = container["livenessProbe"]
    assert liveness["periodSeconds"] * liveness["failureThreshold"] >= 60, "a busy node is no dead one"


def test_what_it_refers_to_is_there(name: str) -> None:
    found = {(each["kind"], each["metadata"]["name"]) for each in objects(name)}
    for _, pod in pods(name):
        spec = pod["spec"]
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        (container,) = spec["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes.keys()
        for volume in volumes.values():
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in found
            if "persistentVolumeClaim" in volume:
                assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in found
            if "secret" in volume:
                assert volume["secret"]["secretName"] in (OPS / name).read_text().partition("apiVersion")[0]


def test_only_nodes_are_behind_the_service_and_no_job_runs_by_itself(name: str) -> None:
    service = one(name, "Service")["spec"]
    selects = service["selector"]
    assert "sessionAffinity" not in service
    for kind, pod in pods(name):
        assert (selects.items() <= pod["metadata"]["labels"].items()) == (kind != "CronJob")
    workload = one(name, "Deployment", "StatefulSet")["spec"]
    assert workload["selector"]["matchLabels"] == selects
    assert service["ports"][0]["targetPort"] == node(name)["spec"]["containers"][0]["ports"][0]["name"]
    jobs = [each["spec"] for each in objects(name) if each["kind"] == "CronJob"]
    assert {(job["suspend"], job["schedule"]) for job in jobs} == {(True, NEVER_BY_ITSELF)}


def test_nodes_go_one_after_the_other() -> None:
    spec = one("kubernetes.yaml", "Deployment")["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert spec["minReadySeconds"] >= 20
    budget = one("kubernetes.yaml", "PodDisruptionBudget")["spec"]
    assert (budget["maxUnavailable"], budget["unhealthyPodEvictionPolicy"]) == (1, "AlwaysAllow")
    assert budget["selector"] == spec["selector"]
    assert one("kubernetes-sqlite.yaml", "StatefulSet")["spec"]["replicas"] == 1
