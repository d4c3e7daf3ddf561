"""Both services behind PgBouncer, in the supported modes, and the errors in unsupported ones."""

import concurrent.futures
import os
import signal
import subprocess
import uuid

import pytest
from conftest import PROGRAMS, Program, executable, free_ports, until
from replicas import Replicas


def installed():
    """Debian 12 has 1.18, which forgets prepared statements in transaction mode."""
    return executable("pgbouncer", "pgbouncer")


def current():
    """PgBouncer with support for prepared statements: 1.21 or newer."""
    return os.environ.get("PGBOUNCER") or pytest.fail("PGBOUNCER must name a PgBouncer of at least 1.21, which .ci/run builds in target/ci-tools/bin")


class PgBouncer:
    """Pooler in front of a server, for any user and database."""

    def __init__(self, program, folder, postgres, **settings):
        self.program, self.folder = program, folder / f"pgbouncer-{uuid.uuid4()}"
        self.folder.mkdir()
        [self.port] = free_ports(1)
        (self.folder / "users.txt").write_text('"postgres" ""\n')
        # PgBouncer refuses to run as root.
        for path in [self.folder, *self.folder.parents]:
            if str(path).startswith("/tmp/pytest"):
                path.chmod(0o755)
        settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "trust",
            "auth_file": self.folder / "users.txt",
            "admin_users": "postgres",
            **settings,
        }
        lines = [f"[databases]\n* = host=127.0.0.1 port={postgres.port}\n[pgbouncer]", *(f"{name} = {value}" for name, value in settings.items())]
        (self.folder / "pgbouncer.ini").write_text("\n".join(lines) + "\n")
        self.start()

    def start(self):
        user = ["-u", "postgres"] if os.getuid() == 0 else []
        self.process = Program([self.program, *user, self.folder / "pgbouncer.ini"], self.folder / f"{uuid.uuid4()}.log")
        until(lambda: "process up" in self.process.log(), f"PgBouncer\n{self.process.log()}")

    def stop(self):
        # SIGTERM would wait for the clients, and SIGQUIT is ignored if a shell runs the tests in the background.
        self.process.stop(signal.SIGKILL)

    def url(self, name):
        return f"postgres://postgres@127.0.0.1:{self.port}/{name}?sslmode=disable"


@pytest.fixture
def pooler(tmp_path, postgres):
    """Starts poolers that end with the test."""
    made = []

    def make(program, **settings):
        made.append(PgBouncer(program, tmp_path, postgres, **settings))
        return made[-1]

    yield make
    for each in made:
        each.stop()


@pytest.fixture
def deployed(tmp_path):
    """Starts two replicas of each service, which end with the test."""
    made = []

    def make(urls, direct_urls=(None, None)):
        made.append(Replicas(tmp_path, urls, count=2, direct_urls=direct_urls))
        return made[-1].start()

    yield make
    for each in made:
        each.stop()


def play(deployment, address=None):
    """Finishes games as a new player at this address, and logs out, of which the other service learns by LISTEN."""
    user = deployment.register(address=address)
    rest = deployment.rest(user["tokens"]["accessToken"], address)
    for _ in range(3):
        game = rest.post("/v1/games", json={"opponent": "OPPONENT_COMPUTER", "mark": "MARK_X", "requestId": str(uuid.uuid4())}).json()["game"]
        moved = rest.post(f"/v1/games/{game['gameId']}:move", json={"cell": 4, "expectedVersion": game["version"]})
        assert moved.status_code == 200, moved.text
        assert rest.post(f"/v1/games/{game['gameId']}:resign", json={}).status_code == 200
        assert rest.get("/v1/me").status_code == 200
        assert rest.get("/v1/leaderboard").status_code == 200
    assert len(rest.get("/v1/finished-games").json()["games"]) == 3
    rotated = rest.post("/v1/auth/rotate", json={"refreshToken": user["tokens"]["refreshToken"]})
    assert rotated.status_code == 200, rotated.text
    assert rest.post("/v1/auth/logout", json={}).status_code == 200
    until(lambda: rest.get("/v1/leaderboard").status_code == 401, "refused", 1)


def no_internal_errors(deployment):
    for replica in [*deployment.auth, *deployment.game]:
        log = replica.program.log()
        assert "INTERNAL" not in log and "database error" not in log, log


def test_session_mode_carries_both_services(postgres, pooler, deployed):
    for name in ["auth_session", "game_session"]:
        postgres.database(name)
    bouncer = pooler(installed(), pool_mode="session", default_pool_size=100)
    deployment = deployed([bouncer.url("auth_session"), bouncer.url("game_session")])
    play(deployment)
    no_internal_errors(deployment)


def test_transaction_mode_carries_both_services(postgres, pooler, deployed):
    direct = [postgres.database(name) for name in ["auth_transaction", "game_transaction"]]
    # Far fewer connections than the replicas' pools have, so that each transaction may get another one.
    bouncer = pooler(current(), pool_mode="transaction", default_pool_size=4)
    deployment = deployed([bouncer.url("auth_transaction"), bouncer.url("game_transaction")], direct)
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        # Each has its own address, because the gateway limits calls per address.
        for each in [threads.submit(play, deployment, f"127.0.1.{number}") for number in range(1, 41)]:
            each.result()
    no_internal_errors(deployment)

    # Without the pooler, calls fail as during any other outage, and afterwards they work again.
    bouncer.stop()
    assert deployment.login("root").status_code == 503
    bouncer.start()
    until(lambda: deployment.login("root").status_code == 200, "a login after the pooler's return")
    until(lambda: all(replica.is_ready() for replica in [*deployment.auth, *deployment.game]), "ready again")
    play(deployment)
    no_internal_errors(deployment)


def test_a_database_role_without_a_statement_timeout_is_reported(postgres, pooler):
    direct = postgres.database("auth_limits")
    bouncer = pooler(current(), pool_mode="transaction")
    arguments = ["--database-url", bouncer.url("auth_limits"), "--database-direct-url", direct]
    words = "ALTER ROLE postgres SET statement_timeout = '10s'"
    assert words in run("migrate", *arguments).stderr
    postgres.sql("auth_limits", words)
    try:
        # PgBouncer knows of the new limit once it has made new connections.
        bouncer.stop()
        bouncer.start()
        assert words not in run("migrate", *arguments).stderr
    finally:
        postgres.sql("auth_limits", "ALTER ROLE postgres RESET statement_timeout")


def run(*arguments):
    command = [PROGRAMS / "auth-service", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_a_pooler_that_loses_session_state_is_refused(postgres, pooler):
    direct, other = postgres.database("auth_refused"), postgres.database("auth_other")
    sharing = pooler(current(), pool_mode="transaction").url("auth_refused")
    forgetful = pooler(current(), pool_mode="transaction", max_prepared_statements=0).url("auth_refused")
    old = pooler(installed(), pool_mode="transaction").url("auth_refused")
    forgets = "PgBouncer must be 1.21 or newer, with max_prepared_statements above 0"
    cases = [
        ([sharing], "name the server itself with --database-direct-url"),
        ([old], "name the server itself with --database-direct-url"),
        ([sharing, sharing], "it must name the server itself, or a pooler in session mode"),
        ([sharing, other], "--database-direct-url and --database-url lead to different databases"),
        ([forgetful, direct], forgets),
    ]
    version = subprocess.run([installed(), "--version"], capture_output=True, text=True).stdout.split()[1]
    if tuple(int(part) for part in version.split(".")[:2]) < (1, 21):
        cases.append(([old, direct], forgets))
    for urls, words in cases:
        arguments = [f"{option}={url}" for option, url in zip(["--database-url", "--database-direct-url"], urls)]
        ended = run("migrate", *arguments)
        assert words in ended.stderr, (urls, ended)
        assert (ended.returncode, len(ended.stderr.splitlines())) == (64, 1), (urls, ended)
