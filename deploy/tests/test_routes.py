"""Which RPCs the gateway lets through: those with an HTTP rule, and nothing else."""

import re

import grpc
import pytest
import yaml
from conftest import ROOT

import api

CONFIG = yaml.safe_load((ROOT / "deploy" / "envoy" / "envoy.yaml").read_text())


def manager():
    [listener] = [each for each in CONFIG["static_resources"]["listeners"] if each["name"] == "gateway"]
    return listener["filter_chains"][0]["filters"][0]["typed_config"]


def http_filter(name):
    [found] = [each for each in manager()["http_filters"] if each["name"] == name]
    return found["typed_config"]


def matches(match, path):
    if "path" in match:
        return path == match["path"]
    if "safe_regex" in match:
        return re.fullmatch(match["safe_regex"]["regex"], path) is not None
    return path.startswith(match["prefix"])


def operations(openapi):
    """What the OpenAPI document says of each RPC, by its gRPC path."""
    found = {}
    for item in openapi["paths"].values():
        for operation in item.values():
            [path] = re.findall(r"gRPC: `([^`]+)`$", operation["description"])
            found[f"/{path}"] = operation
    return found


def test_what_a_client_outside_may_call_is_routed_and_nothing_else(openapi):
    outside = operations(openapi)
    routes = manager()["route_config"]["virtual_hosts"][0]["routes"]
    assert len(outside) > 70
    for path in [*api.RPCS, "/grpc.health.v1.Health/Check", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "/metrics"]:
        cluster = next(each for each in routes if matches(each["match"], path))["route"]["cluster"]
        if path in outside:
            assert cluster == ("auth-service" if path.startswith("/auth.") else "game-service"), path
        else:
            assert cluster == "none", path
    assert "/auth.v1.AccessFeedService/Watch" not in outside
    assert "/auth.v1.AuthService/IssueServiceToken" not in outside


def test_every_service_with_a_route_is_transcoded(openapi):
    services = {path.split("/")[1] for path in operations(openapi)}
    assert set(http_filter("envoy.filters.http.grpc_json_transcoder")["services"]) == services


def test_jwt_authn_asks_a_token_of_all_but_the_public_rpcs(openapi):
    rules = http_filter("envoy.filters.http.jwt_authn")["rules"]
    for path, operation in operations(openapi).items():
        rule = next(each for each in rules if matches(each["match"], path))
        is_public = {} in operation["security"]
        assert ("requires" not in rule) == is_public, path


@pytest.mark.parametrize("path", ["/auth.v1.AuthService/IssueServiceToken", "/auth.v1.AuthService/IntrospectToken", "/auth.v1.RbacService/RegisterPolicies"])
def test_what_is_for_services_is_not_there(gateway, path):
    error = gateway.grpc().refused(path, {}, token=gateway.player())
    assert error.code() == grpc.StatusCode.UNIMPLEMENTED
    assert gateway.rest().post(path, json={}).status_code == 404


def test_neither_feed_nor_reflection_nor_health_nor_metrics_are_there(gateway):
    with pytest.raises(grpc.RpcError) as refused:
        next(gateway.grpc().stream("/auth.v1.AccessFeedService/Watch", {}, gateway.player()))
    assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED
    for path in ["/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "/grpc.health.v1.Health/Check"]:
        call = gateway.grpc().channel.unary_unary(path)
        with pytest.raises(grpc.RpcError) as refused:
            call(b"", timeout=10)
        assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED, path
    for path in ["/metrics", "/readyz", "/livez", "/stats", "/config_dump", "/ready"]:
        answer = gateway.rest().get(path)
        assert (answer.status_code, api.reason(answer.json()["details"])) == (404, "ROUTE_NOT_FOUND"), path
