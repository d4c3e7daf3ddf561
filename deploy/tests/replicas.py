"""Replicas of both services as separate programs, set up as in the runbook, and the gateway in front of them."""

import contextlib
import secrets
import signal
import subprocess

import api
import grpc
import httpx
from conftest import CHEAP, PASSWORD, PROGRAMS, UNLIMITED, Program, answers, free_ports, start_envoy, until


def write_secret(path, text):
    """Writes a file that only its owner can read: the services refuse other files with secrets."""
    path.touch(mode=0o600)
    path.write_text(text)


class Replica:
    """Process of one service, which can be stopped and restarted at the same addresses."""

    def __init__(self, deployment, service, number):
        self.deployment, self.service, self.number = deployment, service, number
        self.grpc, self.http = (f"127.0.0.1:{port}" for port in free_ports(2))
        self.program = None

    def start(self, wait=True):
        letter = self.service.split("-")[0]
        command = [self.deployment.programs / self.service, "serve", *self.deployment.database(self.service)]
        command += [f"--{letter}-listen", self.grpc, f"--{letter}-http-listen", self.http, "--trusted-proxies", "127.0.0.0/8"]
        command += self.deployment.arguments(self.service)
        self.program = Program(command, self.deployment.folder / f"{self.service}-{self.number}.log")
        if wait:
            self.wait()
        return self

    def wait(self):
        self.program.ready(f"http://{self.http}/readyz")

    def stop(self, number=signal.SIGTERM):
        return self.program.stop(number)

    def is_ready(self):
        return answers(f"http://{self.http}/readyz")


class Replicas:
    """`count` replicas of each service, run from `programs`. `direct_urls` lead to the databases without a pooler."""

    def __init__(self, folder, urls, count=2, auth=(), game=(), gateway=(), direct_urls=(None, None), programs=PROGRAMS):
        services = ["auth-service", "game-service"]
        self.programs = programs
        self.folder, self.urls = folder, dict(zip(services, urls, strict=True))
        self.direct_urls = dict(zip(services, direct_urls, strict=True))
        self.more = {"auth-service": list(auth), "game-service": list(game)}
        self.gateway_arguments = list(gateway)
        self.ports = dict(zip(["port", "metrics", "admin"], free_ports(3), strict=True))
        self.origin = f"http://127.0.0.1:{self.ports['port']}"
        self.secret_file, self.game_secret_file = folder / "auth-secret", folder / "game-secret"
        self.auth = [Replica(self, "auth-service", number) for number in range(count)]
        self.game = [Replica(self, "game-service", number) for number in range(count)]
        self.envoy = None

    def arguments(self, service):
        if service == "auth-service":
            return [*CHEAP, *UNLIMITED, "--auth-secret-file", self.secret_file, "--cookie-origins", self.origin, *self.more[service]]
        # All follow the first replica of auth-service. The others serve the same feed.
        follow = ["--auth-grpc-url", f"http://{self.auth[0].grpc}", "--auth-client-id", "game-service"]
        return [*follow, "--auth-client-secret-file", self.game_secret_file, *self.more[service]]

    def database(self, service):
        """Returns the options that name a service's database."""
        direct = self.direct_urls[service]
        return ["--database-url", self.urls[service], *(["--database-direct-url", direct] if direct else [])]

    def run(self, program, *arguments):
        done = subprocess.run([str(part) for part in [self.programs / program, *arguments]], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def begin(self):
        """Does what an operator does once: creates the secrets, the service account and the administrator."""
        import base64

        write_secret(self.secret_file, base64.b64encode(secrets.token_bytes(32)).decode() + "\n")
        for service in self.urls:
            self.run(service, "migrate", *self.database(service))
        url = self.database("auth-service")
        write_secret(self.game_secret_file, self.run("auth-service", "create-service-account", "--client-id", "game-service", *url))
        write_secret(self.folder / "password", PASSWORD)
        self.run("auth-service", "create-admin", "--login", "root", "--email", "root@example.com", "--password-file", self.folder / "password", *url)

    def start(self):
        self.start_services()
        upstreams = ["--auth", *(each.grpc for each in self.auth), "--auth-http", self.auth[0].http, "--game", *(each.grpc for each in self.game)]
        self.envoy = start_envoy(self.folder, self.ports, upstreams, self.gateway_arguments)
        self.wait_for_gateway()
        return self

    def start_services(self):
        """Starts every replica, but not the gateway."""
        if not self.secret_file.exists():
            self.begin()
        for replica in [*self.auth, *self.game]:
            replica.start(wait=False)
        for replica in [*self.auth, *self.game]:
            replica.wait()

    def wait_for_gateway(self):
        """Waits until the gateway's health checks have noticed that the services are ready."""
        until(lambda: answers(f"{self.origin}/v1/client-address"), "auth-service behind the gateway")
        until(lambda: self.rest().get("/v1/leaderboard").status_code == 401, "game-service behind the gateway")

    def stop(self):
        for program in [self.envoy, *(each.program for each in [*self.game, *self.auth])]:
            if program:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    program.stop()

    def rest(self, token=None, address=None, **options):
        """Returns a client of the gateway. An address of its own has limits of its own."""
        if address:
            options["transport"] = httpx.HTTPTransport(local_address=address)
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=self.origin, headers=headers, timeout=20, **options)

    def grpc(self):
        return api.Client(grpc.insecure_channel(f"127.0.0.1:{self.ports['port']}"))

    def register(self, login=None, address=None, email=None):
        login = login or f"p{secrets.token_hex(6)}"
        account = {"login": login, "email": email or f"{login}@example.com", "password": PASSWORD, "passwordConfirmation": PASSWORD}
        answer = self.rest(address=address).post("/v1/auth/register", json=account)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def login(self, identifier):
        return self.rest().post("/v1/auth/login", json={"identifier": identifier, "password": PASSWORD})

    def administrator(self):
        """Returns a client with an administrator's access token."""
        return self.rest(self.login("root").json()["tokens"]["accessToken"])
