"""The job template of Prefect's Kubernetes pool, and the values of its worker, by their schemas; no cluster is used."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator
from prefect import get_client
from prefect.utilities.templating import apply_values

from deployments.deploy import make_pool
from tests.deployments.conftest import Operation
from tests.deployments.test_containers import DOCKERFILE, SERVICES, locked

DIRECTORY: Final = Path(__file__).parents[2] / "deployments/kubernetes"
TEMPLATE: Final[dict[str, Any]] = json.loads((DIRECTORY / "base-job-template.json").read_text())
VARIABLES: Final[dict[str, Any]] = TEMPLATE["variables"]["properties"]
BY_THE_WORKER: Final = {
    "name": "brave-fox",
    "command": ["prefect", "flow-run", "execute"],
    "labels": {"prefect.io/version": "3"},
    "annotations": {},
}
ALL: Final = {
    **BY_THE_WORKER,
    "namespace": "training",
    "image": "registry.example.org/mnist-bp:1",
    "image_pull_policy": "Always",
    "artifacts": "s3://another/store",
    "store_secret": "another",
    "data_volume": {"name": "data", "persistentVolumeClaim": {"claimName": "mnist-bp-data"}},
    "cpu": "500m",
    "memory": "2Gi",
    "gpus": 1,
    "node_selector": {"gpu": "h100"},
    "service_account_name": "trainer",
    "env": {},
    "finished_job_ttl": 60,
    "pod_watch_timeout_seconds": 60,
}


def job(values: dict[str, Any]) -> dict[str, Any]:
    """The job for some values of the variables, as Prefect puts them into the template."""
    defaults = {name: schema["default"] for name, schema in VARIABLES.items() if "default" in schema}
    manifest = apply_values(TEMPLATE["job_configuration"]["job_manifest"], {**defaults, **values})
    return dict(manifest)


def container(manifest: dict[str, Any]) -> dict[str, Any]:
    (found,) = manifest["spec"]["template"]["spec"]["containers"]
    return dict(found)


@pytest.mark.parametrize("values", [BY_THE_WORKER, ALL], ids=["defaults", "all set"])
def test_a_job_of_the_template_is_valid_for_kubernetes(values: dict[str, Any]) -> None:
    manifest = job(values)
    for demanded in ("parallelism", "completions"):  # by Prefect in the pod, where Kubernetes has no such fields
        assert manifest["spec"]["template"]["spec"].pop(demanded) == 1
    kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def test_every_variable_is_used_and_every_placeholder_is_a_variable() -> None:
    assert set(re.findall(r"{{ (\w+) }}", json.dumps(TEMPLATE["job_configuration"]))) == set(VARIABLES) == set(ALL)


def test_the_defaults_are_valid_by_the_schema_of_the_variables() -> None:
    Draft202012Validator.check_schema(TEMPLATE["variables"])
    validator = Draft202012Validator(TEMPLATE["variables"])
    validator.validate({name: schema["default"] for name, schema in VARIABLES.items() if "default" in schema})
    assert not validator.is_valid({"gpus": "one"})


def test_a_pod_asks_for_gpus_only_if_some_are_chosen() -> None:
    assert container(job(BY_THE_WORKER))["resources"]["limits"] == {"memory": "4Gi"}
    assert container(job({**BY_THE_WORKER, "gpus": 2}))["resources"]["limits"] == {"memory": "4Gi", "nvidia.com/gpu": 2}


def test_credentials_come_from_a_secret_and_the_store_from_a_variable() -> None:
    pod = container(job(ALL))
    assert pod["envFrom"] == [{"secretRef": {"name": "another"}}]
    assert {"name": "MNIST_BP_ARTIFACTS", "value": "s3://another/store"} in pod["env"]
    assert "AWS_" not in json.dumps(TEMPLATE["job_configuration"])


def test_a_pod_is_the_image_and_the_user_of_the_containers() -> None:
    assert VARIABLES["image"]["default"] == SERVICES["worker"]["image"]
    user = job(BY_THE_WORKER)["spec"]["template"]["spec"]["securityContext"]
    (uid,) = re.findall(r"useradd --create-home --uid (\d+) mnist-bp", DOCKERFILE)
    assert user["runAsUser"] == user["fsGroup"] == int(uid)
    mounts = {mount["mountPath"] for mount in container(job(BY_THE_WORKER))["volumeMounts"]}
    places = {entry["value"] for entry in container(job(BY_THE_WORKER))["env"] if entry["name"] == "MNIST_BP_DATA_DIR"}
    assert mounts == places  # written to, and kept if the volume is


def test_the_workers_values_name_the_pool_the_locked_prefect_and_the_secrets_of_the_page() -> None:
    worker = yaml.safe_load((DIRECTORY / "worker-values.yaml").read_text())["worker"]
    assert worker["config"]["workPool"] == "mnist-bp"
    assert worker["image"]["prefectTag"].startswith(f"{locked('prefect')}-python")
    page = (DIRECTORY.parent / "README.md").read_text()
    created = set(re.findall(r"kubectl create secret generic (\S+)", page))
    basic_auth = worker["selfHostedServerApiConfig"]["basicAuth"]
    assert created == {basic_auth["existingSecret"], VARIABLES["store_secret"]["default"]}


@pytest.mark.slow
def test_a_kubernetes_pool_is_made_with_the_template(operation: Operation) -> None:
    with get_client(sync_client=True) as client:
        assert make_pool("cluster", "kubernetes") is None  # it did not exist
        made = client.read_work_pool("cluster")
        client.delete_work_pool("cluster")
    assert (made.type, made.base_job_template) == ("kubernetes", TEMPLATE)
