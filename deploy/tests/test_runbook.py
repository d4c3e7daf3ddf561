"""Runs the commands of the runbook exactly as written."""

import re
import sqlite3
import subprocess
import uuid

from conftest import PASSWORD, PROGRAMS, ROOT, Deployment, executable, until
from replicas import Replicas, write_secret

import api

RUNBOOK = (ROOT / "deploy" / "RUNBOOK.md").read_text()
BLOCKS = dict(re.findall(r"^```sh ([a-z-]+)\n(.*?)^```$", RUNBOOK, re.MULTILINE | re.DOTALL))
RUN = set()


def run(block, folder, **variables):
    """Runs a block of the runbook in a folder."""
    RUN.add(block)
    paths = f"{PROGRAMS}:{_postgres_binaries()}"
    environment = {"PATH": f"{paths}:/usr/local/bin:/usr/bin:/bin", "HOME": str(folder), **{name: str(value) for name, value in variables.items()}}
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", BLOCKS[block]], cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
    return done.stdout


def _postgres_binaries():
    import pathlib

    return sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))[-1]


def refusal(answer):
    return answer.status_code, api.reason(answer.json()["details"])


class Life:
    """User with a session and a finished game."""

    def __init__(self, deployment):
        self.deployment = deployment
        self.user = deployment.register()
        self.login = self.user["user"]["login"]
        self.tokens = self.user["tokens"]
        self.play()

    def play(self):
        rest = self.deployment.rest(self.tokens["accessToken"])
        game = rest.post("/v1/games", json={"opponent": "OPPONENT_COMPUTER", "mark": "MARK_X", "requestId": str(uuid.uuid4())}).json()["game"]
        rest.post(f"/v1/games/{game['gameId']}:move", json={"cell": 4, "expectedVersion": game["version"]})
        assert rest.post(f"/v1/games/{game['gameId']}:resign", json={}).status_code == 200

    def games(self, token):
        return len(self.deployment.rest(token).get("/v1/finished-games").json()["games"])


def restored(deployment, back_up, restore):
    """Restores a back-up. Checks that changes before it exist, that later ones do not, and that old tokens are refused."""
    before = Life(deployment)
    back_up()
    before.play()
    after = deployment.register()
    rotated = deployment.rest().post("/v1/auth/rotate", json={"refreshToken": before.tokens["refreshToken"]}).json()["tokens"]

    for replica in [*deployment.game, *deployment.auth]:
        replica.stop()
    output = restore()
    assert "the leaderboard matches the finished games" in output
    for replica in [*deployment.auth, *deployment.game]:
        replica.start()
    deployment.wait_for_gateway()

    # Not the one of the back-up, which was replaced since, nor its successor, which the back-up does not know.
    for token in [before.tokens["refreshToken"], rotated["refreshToken"], after["tokens"]["refreshToken"]]:
        answer = deployment.rest().post("/v1/auth/rotate", json={"refreshToken": token})
        assert (answer.status_code, refusal(answer)[1]) in [(401, "SESSION_ENDED"), (401, "REFRESH_TOKEN_REUSED")]
    for token in [before.tokens["accessToken"], rotated["accessToken"], after["tokens"]["accessToken"]]:
        for path in ["/v1/me", "/v1/leaderboard"]:
            assert deployment.rest(token).get(path).status_code == 401, path
    assert refusal(deployment.login(after["user"]["login"])) == (401, "CREDENTIALS_INVALID")
    again = deployment.login(before.login)
    assert again.status_code == 200, again.text
    assert before.games(again.json()["tokens"]["accessToken"]) == 1


class Standalone(Deployment):
    """Standalone behind the gateway, which is stopped and restarted like a replica."""

    auth = ()

    @property
    def game(self):
        return [self]

    def start(self):
        if self.envoy:
            self.start_standalone()
        else:
            super().start()

    def stop(self):
        self.standalone.stop()

    def end(self):
        super().stop()

    def wait_for_gateway(self):
        until(lambda: self.rest().get("/v1/client-address").status_code == 200, "auth-service behind the gateway")
        until(lambda: self.rest().get("/v1/leaderboard").status_code == 401, "game-service behind the gateway")

    def login(self, identifier):
        return self.rest().post("/v1/auth/login", json={"identifier": identifier, "password": PASSWORD})


def test_the_standalone_is_backed_up_while_it_serves_and_restored(tmp_path):
    executable("sqlite3", "sqlite3")
    backup = tmp_path / "backup"
    backup.mkdir()
    variables = {"DATA": tmp_path / "data", "BACKUP": backup}
    deployment = Standalone(tmp_path)
    try:
        deployment.start()
        restored(deployment, lambda: run("backup-sqlite", tmp_path, **variables), lambda: run("restore-sqlite", tmp_path, **variables))
    finally:
        deployment.end()
    for file in [*backup.iterdir(), *(tmp_path / "data").iterdir()]:
        assert file.stat().st_mode & 0o077 == 0, f"{file} is open to others"
    with sqlite3.connect(backup / "auth.db") as copy:
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_postgres_is_backed_up_while_it_serves_and_restored(tmp_path, postgres):
    urls = [postgres.database("auth_restored"), postgres.database("game_restored")]
    backup = tmp_path / "backup"
    backup.mkdir()
    deployment = Replicas(tmp_path, urls, count=1)
    try:
        deployment.start()
        variables = {"AUTH_URL": urls[0], "GAME_URL": urls[1], "BACKUP": backup}
        restored(deployment, lambda: run("backup-postgres", tmp_path, **variables), lambda: run("restore-postgres", tmp_path, **variables))
    finally:
        deployment.stop()
    for file in backup.iterdir():
        assert file.stat().st_mode & 0o077 == 0, f"{file} is open to others"


def test_a_deployment_is_set_up_upgraded_and_rescued_as_the_runbook_says(tmp_path, postgres):
    urls = [postgres.database("auth_begun"), postgres.database("game_begun")]
    variables = {"AUTH_URL": urls[0], "GAME_URL": urls[1]}
    run("begin", tmp_path, **variables)
    for name in ["auth-secret", "game-secret"]:
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    write_secret(tmp_path / "first-password", PASSWORD + "\n")
    run("first-admin", tmp_path, **variables)
    deployment = Replicas(tmp_path, urls, count=1)
    deployment.begin = None
    try:
        deployment.start()
        root = deployment.administrator()
        assert root.get("/v1/me").json()["isAdmin"] is True
        run("upgrade", tmp_path, AUTH_ADDRESS=f"http://{deployment.auth[0].grpc}", **variables)

        # No administrator can log in, so another one is created while the service runs.
        run("lock-out", tmp_path, **variables)
        rescue = deployment.rest(deployment.login("rescue").json()["tokens"]["accessToken"])
        assert rescue.get("/v1/me").json()["isAdmin"] is True
        events = rescue.get("/v1/audit-events", params={"pageSize": 100}).json()["events"]
        made = [each["actorClientId"] for each in events if each["action"] == "user.create"]
        assert made == ["command-line", "command-line"], "the log knows how both administrators came about"
    finally:
        deployment.stop()


def test_the_server_secret_is_replaced_replica_by_replica_and_nobody_is_logged_out(tmp_path, postgres):
    urls = [postgres.database("auth_secrets"), postgres.database("game_secrets")]
    deployment = Replicas(tmp_path, urls, count=2)
    try:
        deployment.start()
        users = [deployment.register() for _ in range(3)]
        tokens = [user["tokens"]["refreshToken"] for user in users]

        def everybody_goes_on():
            # More often than there are replicas, so that each gets tokens that the other issued.
            for _ in range(4):
                for number, token in enumerate(tokens):
                    rotated = deployment.rest().post("/v1/auth/rotate", json={"refreshToken": token})
                    assert rotated.status_code == 200, rotated.text
                    tokens[number] = rotated.json()["tokens"]["refreshToken"]

        first = deployment.secret_file.read_text().strip()
        for step in ["learn-secret", "use-secret", None]:
            if step:
                run(step, tmp_path)
            else:
                deployment.secret_file.write_text(deployment.secret_file.read_text().splitlines()[0] + "\n")
            for replica in deployment.auth:
                replica.stop()
                replica.start()
                everybody_goes_on()
        assert deployment.secret_file.read_text().strip() != first
        assert deployment.administrator().post("/v1/signing-keys:rotate", json={}).status_code == 200
    finally:
        deployment.stop()


def test_a_leaked_server_secret_is_replaced_without_the_old_one(tmp_path):
    deployment = Replicas(tmp_path, [f"sqlite:{tmp_path / 'auth.db'}", f"sqlite:{tmp_path / 'game.db'}"], count=1)
    try:
        deployment.start()
        user = deployment.register()
        deployment.auth[0].stop()
        deployment.secret_file.write_text("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\n")
        deployment.run("auth-service", "after-restore", "--database-url", deployment.urls["auth-service"], "--auth-secret-file", deployment.secret_file)
        deployment.auth[0].start()
        answer = deployment.rest().post("/v1/auth/rotate", json={"refreshToken": user["tokens"]["refreshToken"]})
        assert answer.status_code == 401
        assert deployment.rest(user["tokens"]["accessToken"]).get("/v1/me").status_code == 401
        assert deployment.login(user["user"]["login"]).status_code == 200
    finally:
        deployment.stop()


def test_every_runbook_command_is_run_by_a_test():
    assert set(BLOCKS) == RUN
