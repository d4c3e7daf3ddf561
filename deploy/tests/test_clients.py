"""Clients of the gateway: their addresses, the origins of pages, and the cookie of a page."""

import http.server
import json
import threading
import urllib.parse
import uuid

import httpx
import pytest
from conftest import PASSWORD, free_ports, start_envoy, until

import api

PAGE = "http://127.0.0.1:8081"


def client_address(gateway, **headers):
    return gateway.rest().get("/v1/client-address", headers=headers).json()


def test_a_forged_forwarded_for_changes_nothing(gateway):
    plain = client_address(gateway)
    assert plain["limiterBucket"] == plain["ipAddress"]
    for forged in ["6.6.6.6", "6.6.6.6, 7.7.7.7", "2001:db8::1", "nonsense"]:
        assert client_address(gateway, **{"x-forwarded-for": forged}) == plain, forged
        assert client_address(gateway, **{"x-real-ip": forged, "forwarded": f"for={forged}", "x-envoy-external-address": forged}) == plain
    over_grpc = gateway.grpc().call("/auth.v1.AccountService/GetClientAddress", metadata=[("x-forwarded-for", "6.6.6.6")])
    assert over_grpc == plain


def test_behind_another_proxy_the_last_hop_before_it_counts(own_gateway):
    # This machine is proxy and gateway at once. The gateway reports loopback peers with another address of this machine.
    machine = client_address(own_gateway())["ipAddress"]
    gateway = own_gateway(gateway=["--trusted-hops", "1"], standalone=["--trusted-proxies", f"{machine}/32"])
    seen = client_address(gateway, **{"x-forwarded-for": "6.6.6.6, 203.0.113.9"})
    assert (seen["ipAddress"], seen["limiterBucket"]) == ("203.0.113.9", "203.0.113.9")
    seen = client_address(gateway, **{"x-forwarded-for": "2001:db8:1:2:3:4:5:6"})
    assert (seen["ipAddress"], seen["limiterBucket"]) == ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64")


def test_a_session_shows_the_address_and_user_agent_of_its_client(gateway):
    registered = gateway.rest().post(
        "/v1/auth/register",
        json={"login": (login := f"p{uuid.uuid4().hex[:10]}"), "email": f"{login}@example.com", "password": PASSWORD, "passwordConfirmation": PASSWORD},
        headers={"x-forwarded-for": "6.6.6.6", "user-agent": "a phone"},
    ).json()
    [session] = gateway.rest(registered["tokens"]["accessToken"]).get("/v1/me/sessions").json()["sessions"]
    assert (session["ipAddress"], session["userAgent"]) == (client_address(gateway)["ipAddress"], "a phone")


@pytest.fixture(scope="module")
def echo(gateway, tmp_path_factory):
    """Origin of a gateway whose upstream returns the headers that it received."""

    class Echo(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps({name.lower(): value for name, value in self.headers.items()}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    ports = dict(zip(["port", "metrics", "admin"], free_ports(3), strict=True))
    upstreams = ["--auth-http", f"127.0.0.1:{server.server_port}", "--auth", gateway.at("auth"), "--game", gateway.at("game")]
    envoy = start_envoy(tmp_path_factory.mktemp("echo"), ports, upstreams)
    yield f"http://127.0.0.1:{ports['port']}"
    envoy.stop()
    server.shutdown()


def test_headers_that_a_client_must_not_set_are_removed(echo):
    forged = {
        "x-request-id": "mine",
        "x-forwarded-proto": "https",
        "x-forwarded-host": "evil.example",
        "x-forwarded-port": "443",
        "x-forwarded-client-cert": "By=me",
        "x-real-ip": "6.6.6.6",
        "forwarded": "for=6.6.6.6",
        "x-envoy-retry-on": "5xx",
        "x-envoy-attempt-count": "9",
        "x-envoy-original-path": "/evil",
        "x-envoy-anything": "1",
        "baggage": "a=b",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    }
    answer = httpx.get(f"{echo}/docs", headers=forged)
    arrived = answer.json()
    for name, value in forged.items():
        assert arrived.get(name) != value, name
    assert not [name for name in arrived if name.startswith("x-envoy-") and name != "x-envoy-expected-rq-timeout-ms"]
    assert uuid.UUID(arrived["x-request-id"]).version == 4
    assert answer.headers["x-request-id"] == arrived["x-request-id"]
    assert arrived["x-forwarded-proto"] == "http"


@pytest.mark.parametrize(
    ("sent", "arrived"),
    [
        (["__Host-refresh_token=v1.x"], None),
        (["theme=dark; __Host-refresh_token=v1.x; lang=en"], "theme=dark; lang=en"),
        (["theme=dark;__Host-refresh_token=v1.x;  lang=en; __Host-refresh_token=v1.y"], "theme=dark; lang=en"),
        (["theme=dark", "__Host-refresh_token=v1.x", "lang=en"], "theme=dark; lang=en"),
        (["a__Host-refresh_token=1; __Host-refresh_token2=2"], "a__Host-refresh_token=1; __Host-refresh_token2=2"),
    ],
)
def test_the_refresh_cookie_is_removed_outside_its_path(echo, sent, arrived):
    headers = [("cookie", value) for value in sent]
    assert httpx.get(f"{echo}/docs", headers=headers).json().get("cookie") == arrived


SECURE_PAGE = "https://play.example.com"


def test_over_tls_the_cookie_is_bound_to_this_host(own_gateway):
    gateway = own_gateway(standalone=["--cookie-origins", SECURE_PAGE])
    page = {"origin": SECURE_PAGE, "x-token-transport": "cookie"}
    login = gateway.register(**page)["user"]["login"]
    answer = gateway.rest().post("/v1/auth/login", json={"identifier": login, "password": PASSWORD}, headers=page)
    [cookie] = [each for each in answer.headers.get_list("set-cookie") if not each.endswith("Max-Age=0")]
    [legacy] = [each for each in answer.headers.get_list("set-cookie") if each != cookie]
    pair, *attributes = cookie.split("; ")
    assert pair.startswith("__Host-refresh_token=v1.")
    assert {"Path=/", "Secure", "HttpOnly", "SameSite=Strict"} < set(attributes)
    assert "__Secure-refresh_token=; " in legacy
    # A cookie planted by a neighbouring site under the old name, and an invalid one under the new name.
    cookies = f"__Secure-refresh_token=v1.planted; __Host-refresh_token=junk; {pair}"
    rotated = gateway.rest().post("/v1/auth/rotate", json={}, headers={**page, "cookie": cookies})
    assert rotated.status_code == 200, rotated.text
    # Over gRPC-Web the cookie is ignored, because it is not meant for those paths.
    by_grpc_web = {**page, "cookie": pair, "content-type": "application/grpc-web+proto"}
    answer = gateway.rest().post("/auth.v1.AuthService/RotateTokens", content=bytes(5), headers=by_grpc_web)
    assert "refresh_token is required" in urllib.parse.unquote(answer.headers["grpc-message"])


def test_hsts_is_sent_only_over_tls_and_only_if_configured(own_gateway, gateway):
    machine = client_address(gateway)["ipAddress"]
    options = ["--hsts-max-age", "86400", "--trusted-hops", "1"]
    told = own_gateway(gateway=options, standalone=["--trusted-proxies", f"{machine}/32"])
    for path in ["/", "/docs", "/v1/client-address", "/v1/me", "/nowhere", "/v1/auth/login"]:
        secure = told.rest().get(path, headers={"x-forwarded-proto": "https"})
        assert secure.headers["strict-transport-security"] == "max-age=86400", path
        plain = told.rest().get(path, headers={"x-forwarded-proto": "http"})
        assert "strict-transport-security" not in plain.headers, path
    assert "strict-transport-security" not in gateway.rest().get("/", headers={"x-forwarded-proto": "https"}).headers


def test_pages_have_nosniff_and_referrer_policy_headers(gateway):
    for page in ["/", "/app.js", "/external.js", "/session.js", "/style.css", "/docs", "/redoc", "/openapi.json"]:
        answer = gateway.rest().get(page)
        assert answer.status_code == 200
        protection = [answer.headers.get_list(name) for name in ("x-content-type-options", "referrer-policy")]
        assert protection == [["nosniff"], ["same-origin"]], page
    for page in ["/docs", "/redoc", "/openapi.json"]:
        headers = httpx.get(f"http://{gateway.at('auth_http')}{page}").headers
        assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "same-origin"), page


def test_the_keys_are_sent_again_only_if_they_have_changed(gateway):
    keys = gateway.rest().get("/.well-known/jwks.json")
    tag = keys.headers["etag"]
    for known in [tag, f"W/{tag}", f'"x, y", {tag}', "*"]:
        again = gateway.rest().get("/.well-known/jwks.json", headers={"if-none-match": known})
        assert (again.status_code, again.content) == (304, b""), known
        for name in ["etag", "cache-control", "vary"]:
            assert again.headers[name] == keys.headers[name]
        assert "date" in again.headers
    assert gateway.rest().get("/.well-known/jwks.json", headers={"if-none-match": '"x"'}).status_code == 200


def preflight(gateway, origin, path="/v1/auth/login", method="POST", headers="content-type,x-token-transport"):
    asked = {"origin": origin, "access-control-request-method": method, "access-control-request-headers": headers}
    return gateway.rest().options(path, headers=asked)


@pytest.mark.parametrize("path", ["/v1/auth/login", "/v1/games/x:watch", "/game.v1.GameService/GetGame", "/nowhere"])
def test_only_pages_of_allowed_origins_may_call(gateway, path):
    allowed = preflight(gateway, PAGE, path).headers
    assert allowed["access-control-allow-origin"] == PAGE
    assert allowed["access-control-allow-credentials"] == "true"
    assert {"authorization", "content-type", "x-token-transport", "x-grpc-web"} <= set(allowed["access-control-allow-headers"].split(", "))
    assert {"POST", "PATCH", "DELETE"} <= set(allowed["access-control-allow-methods"].split(", "))
    for origin in ["http://evil.example", "null", "http://127.0.0.1:8081.evil.example", "https://127.0.0.1:8081"]:
        assert "access-control-allow-origin" not in preflight(gateway, origin, path).headers, origin


def test_responses_and_errors_have_cors_headers(gateway):
    for path, status in [("/v1/client-address", 200), ("/v1/me", 401), ("/nowhere", 404)]:
        answer = gateway.rest().get(path, headers={"origin": PAGE})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, PAGE), path
        assert "x-request-id" in answer.headers["access-control-expose-headers"]
        other = gateway.rest().get(path, headers={"origin": "http://evil.example"})
        assert "access-control-allow-origin" not in other.headers


class Browser(httpx.Client):
    """Client that keeps cookies and sends the origin of its page."""

    def __init__(self, gateway, origin=None):
        headers = {"origin": origin or gateway.origin, "x-token-transport": "cookie"}
        super().__init__(base_url=gateway.origin, headers=headers, timeout=20)

    def cookie(self):
        """Returns the cookie of the refresh token, or None."""
        return next((each for each in self.cookies.jar if each.name.endswith("refresh_token")), None)


def register(browser):
    login = f"p{uuid.uuid4().hex[:10]}"
    account = {"login": login, "email": f"{login}@example.com", "password": PASSWORD, "passwordConfirmation": PASSWORD}
    return browser.post("/v1/auth/register", json=account)


def test_a_page_stays_logged_in_by_a_cookie_that_it_never_sees(gateway):
    browser = Browser(gateway)
    registered = register(browser)
    assert registered.status_code == 200, registered.text
    assert registered.json()["tokens"]["refreshToken"] == ""
    cookie = browser.cookie()
    assert (cookie.path, cookie.has_nonstandard_attr("HttpOnly")) == ("/v1/auth", True)
    assert cookie.value not in registered.text

    refreshed = browser.post("/v1/auth/refresh", json={})
    assert (refreshed.status_code, browser.cookie().value) == (200, cookie.value)
    rotated = browser.post("/v1/auth/rotate", json={})
    assert rotated.status_code == 200
    assert browser.cookie().value not in ("", cookie.value)
    token = rotated.json()["tokens"]["accessToken"]
    assert gateway.rest(token).get("/v1/me").status_code == 200

    assert browser.post("/v1/auth/logout", json={}).status_code == 200
    assert browser.cookie() is None
    until(lambda: gateway.rest(token).get("/v1/leaderboard").status_code == 401, "game-service refuses", seconds=1)


def test_a_reused_cookie_ends_the_session_and_is_cleared(gateway):
    browser = Browser(gateway)
    register(browser)
    first = browser.cookie().value
    for _ in range(2):
        assert browser.post("/v1/auth/rotate", json={}).status_code == 200
    thief = Browser(gateway)
    stolen = thief.post("/v1/auth/rotate", json={}, headers={"cookie": f"refresh_token={first}"})
    assert (stolen.status_code, api.reason(stolen.json()["details"])) == (401, "REFRESH_TOKEN_REUSED")
    assert "Max-Age=0" in stolen.headers["set-cookie"]
    ended = browser.post("/v1/auth/rotate", json={})
    assert (ended.status_code, api.reason(ended.json()["details"])) == (401, "SESSION_ENDED")
    assert browser.cookie() is None


def test_the_page_of_another_site_cannot_use_the_cookie(gateway):
    browser = Browser(gateway)
    register(browser)
    cookie = browser.cookie().value
    evil = Browser(gateway, origin="http://evil.example")
    refused = evil.post("/v1/auth/logout", json={}, headers={"cookie": f"refresh_token={cookie}"})
    assert (refused.status_code, api.reason(refused.json()["details"])) == (403, "ORIGIN_NOT_ALLOWED")
    # Without the header, as a form would send it, cookies are ignored.
    form = httpx.post(f"{gateway.origin}/v1/auth/rotate", content="{}", headers={"cookie": f"refresh_token={cookie}", "origin": gateway.origin})
    assert form.status_code == 400
    assert browser.post("/v1/auth/rotate", json={}).status_code == 200


def test_private_responses_are_not_cached(gateway):
    token = gateway.player()
    for path in ["/v1/me", "/v1/leaderboard", "/nowhere"]:
        answer = gateway.rest(token).get(path)
        assert (answer.headers["cache-control"], answer.headers["x-content-type-options"]) == ("no-store", "nosniff"), path
        assert "origin" in answer.headers["vary"]
    assert gateway.rest().post("/v1/auth/login", json={}).headers["cache-control"] == "no-store"
    assert "public" in gateway.rest().get("/.well-known/jwks.json").headers["cache-control"]


def test_the_pages_about_the_api_are_served(gateway):
    document = gateway.rest().get("/openapi.json")
    assert document.json()["servers"] == [{"url": "/"}], "REST is where the document came from"
    elsewhere = httpx.get(f"http://{gateway.at('auth_http')}/openapi.json").json()
    assert elsewhere["servers"][0]["url"] == "http://127.0.0.1:8080"
    for path, word in [("/docs", "swagger-ui"), ("/redoc", "Redoc")]:
        page = gateway.rest().get(path)
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert word in page.text
        assert "default-src 'self'" in page.headers["content-security-policy"], "no other host"


def test_with_jwt_authn_the_gateway_refuses_bad_tokens_itself(own_gateway):
    gateway = own_gateway(gateway=["--jwt-authn"])
    token = gateway.player()
    assert gateway.rest(token).get("/v1/leaderboard").status_code == 200
    for wrong in ["x.y.z", token[:-4] + "AAAA"]:
        answer = gateway.rest(wrong).get("/v1/leaderboard")
        [info] = [each for each in answer.json()["details"] if each["@type"].endswith("/google.rpc.ErrorInfo")]
        assert (answer.status_code, info["reason"], info["domain"]) == (401, "TOKEN_INVALID", "gateway")
        assert "invalid_token" in answer.headers["www-authenticate"]
        refusal = gateway.grpc().refusal("/auth.v1.AccountService/GetMe", {}, token=wrong)
        assert refusal == ("UNAUTHENTICATED", "gateway/TOKEN_INVALID", [])
    # Other faults of a token are reported by the service, with reasons on which clients rely.
    assert gateway.grpc().refusal("/auth.v1.AccountService/GetMe", {}) == ("UNAUTHENTICATED", "authz.v1/TOKEN_MISSING", [])
    answer = gateway.rest().get("/v1/leaderboard")
    assert (answer.status_code, api.reason(answer.json()["details"])) == (401, "TOKEN_MISSING")
    assert gateway.rest(token).post("/v1/auth/logout", json={}).status_code == 200
    answer = gateway.rest(token).get("/v1/me")
    assert (answer.status_code, api.reason(answer.json()["details"])) == (401, "TOKEN_REVOKED")
