"""Routes of the gateway: it lets through the RPCs with an HTTP rule, and nothing else."""

import base64
import re

import grpc
import pytest
import yaml
from conftest import ROOT
from google.rpc import error_details_pb2, status_pb2

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
    """Returns the operation of each RPC in the OpenAPI document, by its gRPC path."""
    found = {}
    for item in openapi["paths"].values():
        for operation in item.values():
            [path] = re.findall(r"gRPC: `([^`]+)`$", operation["description"])
            found[f"/{path}"] = operation
    return found


def test_only_rpcs_for_outside_clients_are_routed(openapi):
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


def test_jwt_authn_requires_a_token_for_all_but_public_rpcs(openapi):
    rules = http_filter("envoy.filters.http.jwt_authn")["rules"]
    for path, operation in operations(openapi).items():
        rule = next(each for each in rules if matches(each["match"], path))
        is_public = {} in operation["security"]
        assert ("requires" not in rule) == is_public, path


@pytest.mark.parametrize("path", ["/auth.v1.AuthService/IssueServiceToken", "/auth.v1.AuthService/IntrospectToken", "/auth.v1.RbacService/RegisterPolicies"])
def test_rpcs_for_services_are_not_routed(gateway, path):
    error = gateway.grpc().refused(path, {}, token=gateway.player())
    assert error.code() == grpc.StatusCode.UNIMPLEMENTED
    assert gateway.rest().post(path, json={}).status_code == 404


def test_feed_reflection_health_and_metrics_are_not_routed(gateway):
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


def password_fields(message):
    """Returns the fields of a message that hold a password."""
    return [field.name for field in message.fields if re.search(r"(^|_)password$", field.name)]


def test_every_route_that_hashes_a_password_or_sends_a_mail_is_in_the_passwords_limit(openapi):
    routes = manager()["route_config"]["virtual_hosts"][0]["routes"]
    limited = set()
    for path in operations(openapi):
        route = next(each for each in routes if matches(each["match"], path))
        if "envoy.filters.http.local_ratelimit" in route.get("typed_per_filter_config", {}):
            assert route["name"] == "passwords"
            limited.add(path)
    hashing = {path for path in operations(openapi) if password_fields(api.RPCS[path].input_type)}
    assert "/auth.v1.AuthService/Login" in hashing
    # These hash nothing, but each call can send a mail, or make a user or a session.
    rpcs = ["AuthService/RequestPasswordReset", "AuthService/RegisterGuest", "AuthService/LoginGuest", "AuthService/StartExternalLogin",
            "AuthService/LoginWithIdToken", "AccountService/RevertEmailChange", "AccountService/LinkIdentity",
            "AccountService/UpgradeAccountWithIdToken", "UserService/InviteUser", "UserService/SendPasswordReset"]
    assert limited == hashing | {f"/auth.v1.{rpc}" for rpc in rpcs}


def policies():
    return http_filter("envoy.filters.http.rbac")["rules"]["policies"]


def allowed_methods(method, path):
    """Returns the methods that a 405 response to this request lists, or None if the request is let through."""
    for name, policy in policies().items():
        if name == "query":
            continue
        [permission] = policy["permissions"]
        by_path, by_method = permission["and_rules"]["rules"]
        allowed = by_method["not_rule"]["header"]["string_match"]["safe_regex"]["regex"].split("|")
        assert "-".join(allowed) == name
        patterns = [each["url_path"]["path"]["safe_regex"]["regex"] for each in by_path["or_rules"]["rules"]]
        if method not in allowed and any(re.fullmatch(pattern, path) for pattern in patterns):
            return allowed
    return None


METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"]
PAGES = ["/", "/docs", "/redoc", "/openapi.json", "/.well-known/jwks.json", "/app.js", "/external.js", "/session.js", "/style.css"]


def methods_by_path(openapi):
    """Returns the methods of every path, with a value in place of each parameter."""
    found = {}
    for template, item in openapi["paths"].items():
        found[re.sub(r"\{[^}]*\}", "an-id", template)] = {method.upper() for method in item}
    return {**found, **dict.fromkeys(PAGES, {"GET", "HEAD"})}


def test_a_known_path_refuses_every_other_method_and_lists_its_own(openapi):
    for path, served in methods_by_path(openapi).items():
        for method in METHODS:
            listed = allowed_methods(method, path)
            assert listed is None if method in served else set(listed or []) == served, f"{method} {path}"
    unknown = ["/v1", "/v1/", "/v1/me/", "/v1/nothing", "/v1/users/a:nothing", "/v1/users/a/b", "/docs/"]
    for path in [*unknown, "/game.v1.GameService/GetGame"]:
        assert [allowed_methods(method, path) for method in METHODS] == [None] * len(METHODS), path
    # A permission's name has a colon.
    assert allowed_methods("GET", "/v1/permissions/games:read") is None
    assert set(allowed_methods("PUT", "/v1/permissions/games:read")) == {"GET", "PATCH", "DELETE"}


def test_the_gateway_lists_the_methods_of_each_of_its_policies():
    text = (ROOT / "deploy" / "envoy" / "envoy.yaml").read_text()
    [table] = re.findall(r"key: allow, value: \"%CEL\((\{.*\})\[response\.code_details\]\)%\"", text)
    names = [name for name in policies() if name != "query"]
    listed = {f"rbac_access_denied_matched_policy[{name}]": name.replace("-", ", ") for name in names}
    assert yaml.safe_load(table) == listed


def query_is_let_through(method, path):
    """Returns whether the filter in front of the transcoder allows this request, according to its configuration."""
    [rules] = [each["and_rules"]["rules"] for each in policies()["query"]["permissions"]]
    has_query, allowed = rules[0]["header"]["string_match"], rules[1]["not_rule"]["or_rules"]["rules"]
    if not re.fullmatch(has_query["safe_regex"]["regex"], path):
        return True
    for rule in allowed:
        by_method, by_path = (each["header"]["string_match"] for each in rule["and_rules"]["rules"])
        if by_method["exact"] == method and re.fullmatch(by_path["safe_regex"]["regex"], path):
            return True
    return False


def test_only_query_parameters_of_the_openapi_document_are_accepted(openapi):
    def spellings(name):
        return {name, re.sub("([A-Z])", lambda letter: f"_{letter[1].lower()}", name)}

    def named(operation):
        # Parameters without a name are references to headers.
        return [each for each in operation.get("parameters", []) if "name" in each]

    every = {each["name"] for item in openapi["paths"].values() for operation in item.values() for each in named(operation)}
    cases = 0
    for template, item in openapi["paths"].items():
        if not template.startswith("/v1/"):
            continue  # served as a page
        path = re.sub(r"\{[^}]*\}", "an-id", template)
        for method, operation in item.items():
            listed = {each["name"] for each in named(operation) if each["in"] == "query"}
            assert query_is_let_through(method.upper(), path)
            for name in every:
                for spelt in spellings(name):
                    assert query_is_let_through(method.upper(), f"{path}?{spelt}=x") == (name in listed), f"{method} {path}?{spelt}"
                    cases += 1
            for name in listed:
                assert query_is_let_through(method.upper(), f"{path}?{name}=a%20b&{name}=2&")
                for bad in [f"{name}=x&unknown=1", f"%{ord(name[0]):x}{name[1:]}=x", f"{name}.x=1", f"x&{name}=1"]:
                    assert not query_is_let_through(method.upper(), f"{path}?{bad}"), f"{method} {path}?{bad}"
    assert cases > 2000


def test_errors_of_the_gateway_say_the_same_in_the_details_as_in_the_headers_of_grpc():
    mapper = manager()["local_reply_config"]["mappers"][0]
    headers = {each["header"]["key"]: each["header"]["value"] for each in mapper["headers_to_add"]}
    by_http_code = {key: dict(re.findall(r"(\d{3}): '([^']*)'", value)) for key, value in headers.items()}
    details = by_http_code["grpc-status-details-bin"]
    assert len(details) == 11 and details.keys() == by_http_code["grpc-message"].keys() == by_http_code["grpc-status"].keys()
    for http_code, text in details.items():
        status = status_pb2.Status.FromString(base64.b64decode(text + "=="))
        assert (str(status.code), status.message) == tuple(by_http_code[key][http_code] for key in ["grpc-status", "grpc-message"])
        info = error_details_pb2.ErrorInfo()
        assert status.details[0].Unpack(info) and info.domain == "gateway" and info.reason, http_code
        assert (len(status.details) == 2) == (info.reason == "UPSTREAM_UNAVAILABLE"), http_code


def test_errors_of_the_gateway_have_details_over_grpc(gateway):
    refusal = gateway.grpc().refusal("/auth.v1.AuthService/IssueServiceToken", {})
    assert refusal == ("UNIMPLEMENTED", "gateway/ROUTE_NOT_FOUND", [])
