"""Observability: every panel and rule against a real Prometheus under real load, and a trace from the gateway to the SQL."""

import json
import re
import subprocess
import threading
import uuid
from concurrent import futures

import grpc
import httpx
import pytest
import yaml
from conftest import PASSWORD, ROOT, Program, executable, free_ports, make_certificate, until
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

import api

PROMETHEUS = ROOT / "deploy" / "prometheus"
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "dashboard.json").read_text())


def load(gateway):
    """Makes calls of every kind that is counted."""
    login = gateway.register()
    rest = gateway.rest(login["tokens"]["accessToken"])
    name = login["user"]["login"]
    gateway.rest().post("/v1/auth/login", json={"identifier": name, "password": PASSWORD})
    gateway.rest().post("/v1/auth/login", json={"identifier": name, "password": "wrong password"})
    token = login["tokens"]["refreshToken"]
    gateway.rest().post("/v1/auth/refresh", json={"refreshToken": token})
    for _ in range(2):
        token, old = gateway.rest().post("/v1/auth/rotate", json={"refreshToken": token}).json()["tokens"]["refreshToken"], token
    gateway.rest().post("/v1/auth/rotate", json={"refreshToken": old})  # an overlap
    reused = gateway.rest().post("/v1/auth/rotate", json={"refreshToken": login["tokens"]["refreshToken"]})
    assert api.reason(reused.json()["details"]) == "REFRESH_TOKEN_REUSED"
    rest = gateway.rest(gateway.player())
    game = rest.post("/v1/games", json={"opponent": "OPPONENT_COMPUTER", "mark": "MARK_X"}).json()["game"]
    rest.post(f"/v1/games/{game['gameId']}:move", json={"cell": 0, "expectedVersion": game["version"]})
    rest.post(f"/v1/games/{game['gameId']}:resign", json={})
    rest.get("/v1/leaderboard")
    rest.get("/nowhere")
    gateway.rest().get("/v1/me")


@pytest.fixture(scope="module")
def prometheus(gateway, tmp_path_factory):
    """Prometheus with the deployed files, except for the addresses, after some load."""
    folder = tmp_path_factory.mktemp("prometheus")
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(PROMETHEUS / "alerts.yml")]
    targets = {"auth-service": gateway.at("auth_http"), "game-service": gateway.at("game_http"), "gateway": gateway.at("metrics")}
    for job in config["scrape_configs"]:
        del job["dns_sd_configs"]
        job["static_configs"] = [{"targets": [targets.pop(job["job_name"])]}]
    assert not targets
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    [port] = free_ports(1)
    program = Program(
        [
            *[executable("prometheus", "prometheus"), f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"],
            *[f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"],
        ],
        folder / "log",
    ).ready(f"http://127.0.0.1:{port}/-/ready")
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=20)
    try:

        def scrapes():
            [series] = query(client, 'count_over_time(up{job="game-service"}[1h])') or [{"value": [0, "0"]}]
            return int(series["value"][1])

        # Pause between two scrapes: a rate needs two samples.
        for count in range(1, 7):
            load(gateway)
            until(lambda: scrapes() > count, "the next scrape")
        yield client
    finally:
        program.stop()


def query(client, expression):
    answer = client.get("/query", params={"query": expression})
    assert answer.status_code == 200, (expression, answer.text)
    return answer.json()["data"]["result"]


def test_every_panel_shows_data(prometheus):
    empty = []
    count = 0
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            count += 1
            expression = target["expr"].replace("$__rate_interval", "5s")
            if not query(prometheus, expression):
                empty.append((panel["title"], expression))
    assert count > 40
    assert empty == []


def test_every_label_that_a_panel_uses_exists(prometheus):
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            series = query(prometheus, target["expr"].replace("$__rate_interval", "5s"))
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                assert all(label in each["metric"] for each in series), (panel["title"], label)


def test_every_alert_rule_uses_metrics_that_exist(prometheus):
    def groups():
        found = prometheus.get("/rules").json()["data"]["groups"]
        return all(rule["health"] != "unknown" for group in found for rule in group["rules"]) and found

    rules = [rule for group in until(groups, "the rules were evaluated") for rule in group["rules"]]
    assert len(rules) == 21
    for rule in rules:
        assert rule["health"] == "ok", rule
        names = set(re.findall(r"\b(?:up|[a-z]+(?:_[a-z]+)+)\b(?=[{\[ )]|$)", rule["query"]))
        names -= {"histogram_quantile", "rpc_service", "rpc_method", "on"}
        assert names, rule["query"]
        for name in names:
            assert query(prometheus, f"count({name})"), f"{rule['name']}: nobody has {name}"


def test_no_alert_pages_while_all_is_well(prometheus):
    pages = [each for each in prometheus.get("/alerts").json()["data"]["alerts"] if each["labels"]["severity"] == "page"]
    assert pages == []


def test_every_alert_has_its_section_in_the_runbook():
    text = (ROOT / "deploy" / "RUNBOOK.md").read_text()
    for group in yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]:
        for rule in group["rules"]:
            assert f'<a id="{rule["annotations"]["runbook"]}"></a>' in text, rule["alert"]


def test_the_alert_rules_fire_when_they_should():
    promtool = executable("promtool", "prometheus")
    for command in [["check", "config", "prometheus.yml"], ["test", "rules", "alerts_test.yml"]]:
        done = subprocess.run([promtool, *command], cwd=PROMETHEUS, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


class Collector:
    """Collector of OTLP spans."""

    def __init__(self, certificate=None):
        self.spans = []
        self.lock = threading.Lock()
        self.server = grpc.server(futures.ThreadPoolExecutor(2))
        handler = grpc.unary_unary_rpc_method_handler(
            self.export,
            request_deserializer=trace_service_pb2.ExportTraceServiceRequest.FromString,
            response_serializer=trace_service_pb2.ExportTraceServiceResponse.SerializeToString,
        )
        service = "opentelemetry.proto.collector.trace.v1.TraceService"
        self.server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {"Export": handler})])
        if certificate:
            credentials = grpc.ssl_server_credentials([tuple(file.read_bytes() for file in certificate)])
            self.port = self.server.add_secure_port("127.0.0.1:0", credentials)
        else:
            self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()

    def export(self, request, _context):
        with self.lock:
            for resource in request.resource_spans:
                [service] = [each.value.string_value for each in resource.resource.attributes if each.key == "service.name"]
                for scope in resource.scope_spans:
                    self.spans.extend((service, span) for span in scope.spans)
        return trace_service_pb2.ExportTraceServiceResponse()

    def of(self, trace_id):
        with self.lock:
            return [(service, span) for service, span in self.spans if span.trace_id == trace_id]

    def named(self, name):
        with self.lock:
            return [span for _, span in self.spans if span.name == name]


def test_a_trace_spans_the_gateway_the_service_and_its_sql(own_gateway):
    collector = Collector()
    otlp = f"127.0.0.1:{collector.port}"
    gateway = own_gateway(
        gateway=["--otlp", otlp, "--trace-percent", "100"],
        standalone=["--otlp-endpoint", f"http://{otlp}", "--log-format", "json"],
    )
    try:
        secret = uuid.uuid4().hex
        login = f"t{secret[:10]}"
        account = {"login": login, "email": f"{secret}@example.com", "password": f"secret {secret}", "passwordConfirmation": f"secret {secret}"}
        registered = gateway.rest().post("/v1/auth/register", json=account)
        token = registered.json()["tokens"]["accessToken"]
        gateway.rest(token).get("/v1/games")

        [call] = until(lambda: collector.named("auth.v1.AuthService/Register"), "the span of the call", seconds=20)

        def whole():
            spans = collector.of(call.trace_id)
            return {service for service, _ in spans} == {"gateway", "standalone"} and any(span.name == "COMMIT" for _, span in spans) and spans

        spans = until(whole, "the whole trace", seconds=20)
        by_id = {span.span_id: (service, span) for service, span in spans}
        service, parent = by_id[call.parent_span_id]
        assert service == "gateway", "the call's parent is the gateway's span"
        statements = [span for _, span in spans if span.parent_span_id == call.span_id]
        names = {span.name for span in statements}
        assert {"BEGIN", "COMMIT", "user_insert", "session_insert"} <= names, names
        attributes = {each.key: each.value.string_value for each in statements[0].attributes}
        assert attributes["db.system.name"] == "sqlite"
        assert call.kind == call.SPAN_KIND_SERVER
        assert {span.kind for span in statements} == {call.SPAN_KIND_CLIENT}

        # The call's log line has its trace id.
        assert f'"trace_id":"{call.trace_id.hex()}"' in gateway.standalone.log()
        # No span contains a secret of the caller.
        everything = b"".join(span.SerializeToString() for _, span in collector.spans) + gateway.standalone.log().encode()
        for value in [secret, token, registered.json()["tokens"]["refreshToken"]]:
            assert value.encode() not in everything
    finally:
        gateway.stop()
        collector.server.stop(None)


def test_services_send_traces_to_a_collector_behind_tls(own_gateway, tmp_path):
    key, certificate = make_certificate(tmp_path, "DNS:localhost")
    collector = Collector((key, certificate))
    trusted = {"SSL_CERT_FILE": str(certificate)}
    gateway = own_gateway(standalone=["--otlp-endpoint", f"https://localhost:{collector.port}"], environment=trusted)
    try:
        gateway.rest(gateway.player()).get("/v1/leaderboard/rank")
        [call] = until(lambda: collector.named("game.v1.LeaderboardService/GetPlayerRank"), "the span of the call", seconds=20)
        assert call.parent_span_id == b"", "the gateway traces nothing, and decides nothing"
        gateway.standalone.stop()
        # Jobs and health checks have no spans of their own.
        with collector.lock:
            roots = {span.name for _, span in collector.spans if not span.parent_span_id}
        assert {name.split(".")[0] for name in roots} <= {"auth", "game"}, roots
    finally:
        gateway.stop()
        collector.server.stop(None)


def test_calls_are_served_without_a_collector(own_gateway):
    [nobody] = free_ports(1)
    gateway = own_gateway(standalone=["--otlp-endpoint", f"http://127.0.0.1:{nobody}"], gateway=["--otlp", f"127.0.0.1:{nobody}", "--trace-percent", "100"])
    assert gateway.rest(gateway.player()).get("/v1/leaderboard").status_code == 200
    gateway.standalone.stop()


def test_the_log_of_the_gateway_has_the_method_and_path_of_the_client_and_no_query(gateway):
    # Other tests share this gateway, so each call has a unique id by which it is found.
    secret, [first, second] = f"secret-{uuid.uuid4()}", [str(uuid.uuid4()) for _ in range(2)]
    rest = gateway.rest(gateway.player())
    rest.get(f"/v1/games/{first}?access_token={secret}")
    rest.get(f"/v1/games/{second}?pageToken={secret}")
    for game in [first, second]:
        lines = until(lambda: [line for line in gateway.envoy.log().splitlines() if game in line], f"the call for {game} is logged")
        assert [(json.loads(call)["method"], json.loads(call)["path"]) for call in lines] == [("GET", f"/v1/games/{game}")]
    assert secret not in gateway.envoy.log()
