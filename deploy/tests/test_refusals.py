"""Refusals of the gateway itself, which look like the services' errors: with a reason and a request id."""

import json
import socket
import struct
import time

import grpc
import httpx
import pytest

import api
from api import retry_says_the_same_twice

REGISTER = "/v1/auth/register"


def refused(answer, http_status, code, reason):
    assert answer.status_code == http_status, answer.text
    assert answer.headers["content-type"] == "application/json"
    status = answer.json()
    assert (status["code"], api.reason(status["details"])) == (code, reason), status
    assert status["message"]
    [info] = [each for each in status["details"] if each["@type"].endswith("/google.rpc.ErrorInfo")]
    assert info["domain"] == "gateway"
    [request] = [each for each in status["details"] if each["@type"].endswith("/google.rpc.RequestInfo")]
    assert request["requestId"] == answer.headers["x-request-id"]
    return status["message"]


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ("{", "Unexpected end"),
        ("[]", ""),
        ('{"login": {}}', "login"),
        ('{"login": "a" "b"}', ""),
    ],
)
def test_a_malformed_body_is_refused(gateway, body, word):
    message = refused(gateway.rest().post(REGISTER, content=body), 400, 3, "BAD_REQUEST")
    assert word in message


def test_a_value_of_the_wrong_type_is_refused(gateway):
    token = gateway.player()
    refused(gateway.rest(token).get("/v1/leaderboard", params={"limit": "many"}), 400, 3, "BAD_REQUEST")
    refused(gateway.rest(token).post("/v1/games", json={"opponent": "OPPONENT_NOBODY"}), 400, 3, "BAD_REQUEST")
    message = refused(gateway.rest(token).get("/v1/leaderboard", params={"limitt": 3}), 400, 3, "QUERY_INVALID")
    assert "limitt" in message


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1"),
        ("GET", "/app.js/../../etc/passwd"),
        ("GET", "/.well-known/openid-configuration"),
        ("POST", "/game.v1.GameService/GetGame"),
    ],
)
def test_an_unknown_path_is_not_found(gateway, method, path):
    refused(gateway.rest().request(method, path), 404, 5, "ROUTE_NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/auth/login", "POST"),
        ("POST", "/v1/leaderboard", "GET"),
        ("HEAD", "/v1/leaderboard", "GET"),
        ("OPTIONS", "/v1/leaderboard", "GET"),
        ("PUT", "/v1/me?updateMask=login", "GET, PATCH"),
        ("POST", "/v1/roles/player", "GET, PATCH, DELETE"),
        ("GET", "/v1/roles/player:setPermissions", "POST"),
        ("DELETE", "/docs", "GET, HEAD"),
        ("POST", "/", "GET, HEAD"),
    ],
)
def test_another_method_is_refused_with_the_allowed_ones(gateway, method, path, allow):
    page = "http://127.0.0.1:8081"
    answer = gateway.rest().request(method, path, headers={"origin": page})
    assert (answer.status_code, answer.headers["allow"]) == (405, allow)
    assert answer.headers["access-control-allow-origin"] == page
    if method != "HEAD":
        assert refused(answer, 405, 12, "METHOD_NOT_ALLOWED") == f"this path has other methods: {allow}"


def test_an_oversized_body_is_refused(gateway):
    # It depends on how the body comes whether the gateway or the service refuses it.
    for length in [66_000, 1_000_000]:
        answer = gateway.rest().post(REGISTER, json={"login": "a" * length})
        if answer.status_code == 413:
            refused(answer, 413, 3, "BODY_TOO_LARGE")
        else:
            assert (answer.status_code, api.reason(answer.json()["details"])) == (400, "MESSAGE_TOO_LARGE")
    error = gateway.grpc().refused("/auth.v1.AuthService/Register", {"login": "a" * 70_000})
    assert error.code() == grpc.StatusCode.OUT_OF_RANGE, "by the service itself"


def test_oversized_headers_and_escaped_slashes_are_refused(gateway):
    answer = gateway.rest().get("/v1/client-address", headers={"x-long": "a" * 20_000})
    assert (answer.status_code, answer.json()["code"], api.reason(answer.json()["details"])) == (431, 3, "HEADERS_TOO_LARGE")
    answer = gateway.rest().get("/v1/client%2Faddress")
    assert (answer.status_code, api.reason(answer.json()["details"])) == (400, "BAD_REQUEST")


@pytest.mark.parametrize("head", ["", "host: play.example.com\r\nconnection: close\r\n"])
def test_http_1_0_is_served(gateway, head):
    """HTTP/1.0, which nginx speaks to its upstreams by default."""
    with socket.create_connection(("127.0.0.1", gateway.ports["port"]), timeout=10) as connection:
        connection.sendall(f"GET /v1/client-address HTTP/1.0\r\n{head}\r\n".encode())
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    head, body = received.split(b"\r\n\r\n", 1)
    assert head.split()[1] == b"200", received
    assert json.loads(body)["ipAddress"]


def test_a_protocol_upgrade_is_refused(gateway):
    def answer(text):
        with socket.create_connection(("127.0.0.1", gateway.ports["port"]), timeout=10) as connection:
            connection.sendall(text.encode())
            received = b""
            while b"\r\n\r\n" not in received or not received.endswith(b"}"):
                part = connection.recv(65536)
                if not part:
                    break
                received += part
        head, body = received.split(b"\r\n\r\n", 1)
        return int(head.split()[1]), json.loads(body)

    status, body = answer("GET /v1/me HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
    assert (status, body["code"], body["message"], api.reason(body["details"])) == (403, 7, "this is not allowed", "FORBIDDEN")


def test_requests_are_limited_per_address(own_gateway):
    gateway = own_gateway()
    rest, grpc_client = gateway.rest(), gateway.grpc()

    def until_limited(call):
        return next(found for _ in range(1000) if (found := call()))

    started, served = time.monotonic(), 0

    def by_rest():
        nonlocal served
        answer = rest.get("/v1/client-address")
        served += answer.status_code == 200
        return answer if answer.status_code != 200 else None

    limited = until_limited(by_rest)
    # The burst, plus the refill since then.
    assert 200 <= served <= 200 + 100 * (time.monotonic() - started + 1)
    refused(limited, 429, 8, "RATE_LIMITED")
    retry_says_the_same_twice(limited)

    def by_grpc():
        try:
            grpc_client.call("/auth.v1.AccountService/GetClientAddress")
        except grpc.RpcError as error:
            return error

    assert until_limited(by_grpc).code() == grpc.StatusCode.RESOURCE_EXHAUSTED

    def by_grpc_web():
        path = "/auth.v1.AccountService/GetClientAddress"
        answer = rest.post(path, content=struct.pack(">BI", 0, 0), headers={"content-type": "application/grpc-web+proto"})
        return answer if answer.headers.get("grpc-status") else None

    limited = until_limited(by_grpc_web)
    assert (limited.status_code, limited.headers["grpc-status"]) == (200, "8")
    # Another address is not limited.
    with httpx.Client(base_url=gateway.origin, transport=httpx.HTTPTransport(local_address="127.0.0.2")) as other:
        assert other.get("/v1/client-address").status_code == 200


def test_password_routes_have_a_limit_of_their_own(own_gateway):
    gateway = own_gateway()
    attempt = {"identifier": "nobody", "password": "correct horse"}
    answers = [gateway.rest().post("/v1/auth/login", json=attempt) for _ in range(60)]
    codes = [answer.status_code for answer in answers]
    assert codes[:10] == [401] * 10
    limited = [answer for answer in answers if api.reason(answer.json()["details"]) == "RATE_LIMITED"]
    assert limited, json.dumps(codes)
    assert gateway.rest().get("/v1/client-address").status_code == 200


def test_empty_map_values_do_not_crash_the_gateway(gateway):
    """Envoy 1.40 crashes on a map with an empty value, which audit events without details would have."""
    root = gateway.rest(gateway.administrator())
    token = ""
    while True:
        page = root.get("/v1/audit-events", params={"pageSize": 100, "pageToken": token})
        assert page.status_code == 200
        token = page.json()["nextPageToken"]
        if not token:
            break
    assert gateway.envoy.is_running()


def test_a_query_parameter_cannot_override_the_path(gateway):
    """Without a filter, Envoy's transcoder would allow it, whatever its settings for unknown parameters."""
    root = gateway.rest(gateway.administrator())
    victims = [gateway.register()["user"]["userId"] for _ in range(2)]
    for name in ["user_id", "userId", "user%5Fid", "%75serId"]:
        answer = root.request("DELETE", f"/v1/users/{victims[0]}?{name}={victims[1]}")
        assert (answer.status_code, api.reason(answer.json()["details"])) == (400, "QUERY_INVALID"), name
        message = "the query has a parameter that this path and method do not take"
        assert answer.json()["message"] == f"{message}: /v1/users/{victims[0]}?{name}={victims[1]}"
        answer = root.get(f"/v1/users/{victims[0]}?{name}={victims[1]}")
        assert answer.status_code == 400, name
    for victim in victims:
        assert root.get(f"/v1/users/{victim}").json()["user"]["userId"] == victim
    assert root.request("DELETE", f"/v1/users/{victims[0]}").status_code == 200
