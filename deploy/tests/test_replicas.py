"""Two replicas of each service under load: restarts, a key rotation and a lost database fail no call of a retrying client."""

import contextlib
import signal
import subprocess
import threading
import time
import uuid

import httpx
import pytest
from conftest import PASSWORD, PROGRAMS, until
from postgres import Postgres
from replicas import Replicas

import api

# HTTP statuses that allow a retry.
AGAIN = {502, 503, 504, 429}
# Seconds for which a client retries.
PATIENCE = 30


@pytest.fixture
def postgres():
    server = Postgres()
    yield server
    with contextlib.suppress(RuntimeError):
        server.command("resume")
    server.end()


@pytest.fixture
def deployment(tmp_path, postgres):
    made = Replicas(
        tmp_path,
        [postgres.database("auth"), postgres.database("game")],
        auth=["--key-prepublish-seconds", "2", "--drain-timeout-seconds", "10"],
        game=["--drain-timeout-seconds", "10"],
    )
    try:
        yield made.start()
    finally:
        made.stop()


class Client(threading.Thread):
    """Player who plays, reads and refreshes tokens without end, and retries every call that can be retried."""

    def __init__(self, deployment, number, stop):
        super().__init__(daemon=True)
        self.stop = stop
        self.tokens = deployment.register()["tokens"]
        self.http = deployment.rest(address=f"127.0.1.{number + 1}")
        self.calls = self.retries = self.games = 0
        self.failure = None

    def run(self):
        try:
            while not self.stop.is_set():
                self.play()
                self.rotate()
                self.look()
        except Exception as error:  # raised by the thread that joins this one
            self.failure = error

    def call(self, method, path, body=None, token=True):
        end = time.monotonic() + PATIENCE
        while True:
            headers = {"authorization": f"Bearer {self.tokens['accessToken']}"} if token else {}
            answer = None
            with contextlib.suppress(httpx.TransportError):
                answer = self.http.request(method, path, json=body, headers=headers)
            if answer is not None and answer.status_code == 200:
                self.calls += 1
                return answer.json()
            reason = api.reason(answer.json()["details"]) if answer is not None else None
            if answer is not None and answer.status_code not in AGAIN and reason not in ("TRANSACTION_CONFLICT", "ROTATION_OVERLAP"):
                raise AssertionError(f"{method} {path}: {answer.status_code} {answer.text}")
            assert time.monotonic() < end, f"{method} {path} for {PATIENCE} s: {answer and answer.text}"
            self.retries += 1
            time.sleep(0.05)

    def play(self):
        game = self.call("POST", "/v1/games", {"opponent": "OPPONENT_COMPUTER", "mark": "MARK_X", "requestId": str(uuid.uuid4())})["game"]
        while game["state"] == "GAME_STATE_TURN":
            body = {"cell": game["board"].index("."), "expectedVersion": game["version"]}
            game = self.call("POST", f"/v1/games/{game['gameId']}:move", body)["game"]
        self.games += 1

    def rotate(self):
        # The same id in every attempt: if a response was lost, the repeated rotation returns the same token.
        body = {"refreshToken": self.tokens["refreshToken"], "requestId": str(uuid.uuid4())}
        self.tokens = self.call("POST", "/v1/auth/rotate", body, token=False)["tokens"]

    def look(self):
        self.call("GET", "/v1/me")
        self.call("GET", "/v1/leaderboard?limit=5")


class Rivals(threading.Thread):
    """Two players who play each other. Each of them rotates the tokens between two games."""

    def __init__(self, deployment, number, games):
        super().__init__(daemon=True)
        self.players = [Client(deployment, 2 * number + side, None) for side in range(2)]
        self.games = games
        self.acknowledged = []
        self.failure = None

    def run(self):
        try:
            for number in range(self.games):
                self.play(*(self.players if number % 2 else reversed(self.players)), is_resigned=number % 3 == 0)
                for player in self.players:
                    player.rotate()
        except Exception as error:  # raised by the thread that joins this one
            self.failure = error

    def play(self, x, o, is_resigned):
        game = x.call("POST", "/v1/games", {"opponent": "OPPONENT_PLAYER", "mark": "MARK_X", "requestId": str(uuid.uuid4())})["game"]
        path = f"/v1/games/{game['gameId']}"
        game = o.call("POST", f"{path}:join", {})["game"]
        moves = [0, 3, 1, 4] if is_resigned else [0, 3, 1, 4, 2]
        for number, cell in enumerate(moves):
            game = (o if number % 2 else x).call("POST", f"{path}:move", {"cell": cell, "expectedVersion": game["version"]})["game"]
        if is_resigned:
            game = o.call("POST", f"{path}:resign", {})["game"]
        assert (game["state"], game["winnerUserId"]) == ("GAME_STATE_WON", game["xUserId"])
        self.acknowledged.append((game["gameId"], moves))


class Watcher(threading.Thread):
    """Watcher of a game until it is over. Calls again when a stream ends."""

    def __init__(self, deployment, stop):
        super().__init__(daemon=True)
        self.stop = stop
        self.token = deployment.register()["tokens"]["accessToken"]
        self.http = deployment.rest(self.token)
        game = self.http.post("/v1/games", json={"opponent": "OPPONENT_PLAYER"}).json()["game"]
        self.url = f"/v1/games/{game['gameId']}:watch"
        self.streams = 0
        self.failure = None

    def run(self):
        while not self.stop.is_set():
            try:
                with self.http.stream("GET", self.url, timeout=5) as answer:
                    if answer.status_code == 200:
                        self.streams += 1
                        for _ in answer.iter_lines():
                            pass
                    elif answer.status_code not in AGAIN:
                        self.failure = answer.read()
                        return
            except httpx.TransportError:
                pass
            self.stop.wait(0.05)


@contextlib.contextmanager
def load(deployment, clients=4, watchers=2):
    """Runs clients meanwhile. Afterwards checks that no call failed, and that each acknowledged change happened exactly once."""
    stop = threading.Event()
    players = [Client(deployment, number, stop) for number in range(clients)]
    watching = [Watcher(deployment, stop) for _ in range(watchers)]
    for thread in [*players, *watching]:
        thread.start()
    until(lambda: all(each.games or each.failure for each in players), "the first games")
    try:
        yield players, watching
        before = [each.games for each in players]
        until(lambda: all(each.failure or each.games > games for each, games in zip(players, before, strict=True)), "and on it goes")
    finally:
        stop.set()
    for player in players:
        player.join(PATIENCE + 5)
        assert player.failure is None, player.failure
        assert not player.is_alive()
    for each in watching:
        assert each.failure is None
    for player in players:
        finished = [game["gameId"] for game in history(player)]
        assert len(set(finished)) == len(finished) == player.games
    has_no_drift(deployment)


def history(player):
    """Returns the finished games of a player."""
    finished = []
    page = {"nextPageToken": ""}
    while True:
        page = player.call("GET", f"/v1/finished-games?pageSize=100&pageToken={page['nextPageToken']}")
        finished += page["games"]
        if not page["nextPageToken"]:
            return finished


def has_no_drift(deployment):
    """Checks that the leaderboard agrees with the history."""
    checked = subprocess.run(
        [PROGRAMS / "game-service", "recompute-leaderboard", "--check", "--database-url", deployment.urls["game-service"]], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout


def total(replicas, name, **labels):
    """Returns the sum of a metric over these replicas."""
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    lines = [line for each in replicas for line in httpx.get(f"http://{each.http}/metrics").text.splitlines()]
    return sum(float(line.split()[-1]) for line in lines if line.startswith(f"{name}{{") and all(each in line for each in wanted))


def test_no_call_fails_during_a_rolling_restart_and_a_key_rotation(deployment, record_property):
    root = deployment.administrator()
    with load(deployment) as (players, watching):
        streams = [each.streams for each in watching]
        for replica in [*deployment.auth, *deployment.game]:
            started = time.monotonic()
            assert replica.stop(signal.SIGTERM) == 0
            assert time.monotonic() - started < 20, "gone within the time, also with open streams"
            replica.start()
        kids = {each["kid"] for each in root.get("/.well-known/jwks.json").json()["keys"]}
        assert root.post("/v1/signing-keys:rotate", json={}).status_code == 200

        def signs():
            answer = root.get("/v1/signing-keys")
            assert answer.status_code == 200, answer.text
            keys = answer.json()["signingKeys"]
            return [each["kid"] for each in keys if each["state"] == "STATE_ACTIVE" and each["kid"] not in kids]

        until(signs, "another key signs")
        before = [each.calls for each in players]
        until(lambda: all(each.failure or each.calls > calls + 20 for each, calls in zip(players, before, strict=True)), "calls under the new key")
        assert all(each.streams > count for each, count in zip(watching, streams, strict=True)), "streams were opened again"
    record_property("calls", sum(each.calls for each in players))
    record_property("retries", sum(each.retries for each in players))
    print(f"{sum(each.calls for each in players)} calls, {sum(each.retries for each in players)} tried again")


def unready_and_back(deployment, postgres, away, back):
    replicas = [*deployment.auth, *deployment.game]
    with load(deployment) as (players, _):
        away()
        gone = time.monotonic()
        until(lambda: not any(each.is_ready() for each in replicas), "nobody is ready")
        # Two seconds, plus time for a busy machine.
        assert time.monotonic() - gone < 6
        answer = deployment.rest(players[0].tokens["accessToken"]).get("/v1/me")
        assert answer.status_code == 503, answer.text
        assert all(each.program.is_running() for each in replicas), "no restart is needed"
        back()
        returned = time.monotonic()
        until(lambda: all(each.is_ready() for each in replicas), "everybody is ready again")
        assert time.monotonic() - returned < 10


def test_a_database_restart_under_load_loses_nothing(deployment, postgres):
    unready_and_back(deployment, postgres, lambda: postgres.command("stop"), postgres.start)


def test_a_hanging_database_under_load_loses_nothing(deployment, postgres):
    unready_and_back(deployment, postgres, lambda: postgres.command("pause"), lambda: postgres.command("resume"))


def test_services_report_a_database_outage_themselves(deployment, postgres):
    """Calls the service directly, because the gateway would choose a healthy one."""
    import grpc

    token = deployment.login(deployment.register()["user"]["login"]).json()["tokens"]["accessToken"]
    postgres.command("stop")
    for replica, path in [(deployment.auth[0], "/auth.v1.AccountService/GetMe"), (deployment.game[0], "/game.v1.LeaderboardService/GetLeaderboard")]:
        client = api.Client(grpc.insecure_channel(replica.grpc))
        error = client.refused(path, {}, token=token)
        status = api.status_of(error)
        assert (error.code(), api.reason(status["details"])) == (grpc.StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE")
        assert [each for each in status["details"] if each["@type"].endswith("RetryInfo")]
        # Callers are still authenticated.
        error = client.refused(path, {}, token=token[:-4] + "AAAA")
        assert error.code() == grpc.StatusCode.UNAUTHENTICATED
    postgres.start()
    until(lambda: deployment.login("root").status_code == 200, "back", 15)


def test_killing_a_replica_loses_no_call(deployment):
    with load(deployment) as (players, _):
        for replica in [deployment.game[1], deployment.auth[1]]:
            replica.stop(signal.SIGKILL)
            before = [each.calls for each in players]
            until(lambda before=before: all(each.failure or each.calls > calls + 10 for each, calls in zip(players, before, strict=True)), "the other serves")
            replica.start()


def test_mixed_groups_of_two_replicas_keep_the_rules(deployment, postgres):
    """Moves, joins, new games, ends and rotations of many players at once, at two replicas of each service."""
    games = 12
    rivals = [Rivals(deployment, number, games) for number in range(12)]
    for each in rivals:
        each.start()
    for each in rivals:
        each.join(120)
        assert each.failure is None, each.failure
        assert not each.is_alive()
    for each in rivals:
        for player in each.players:
            # Every acknowledged move is there, once, in the history of both.
            finished = {game["gameId"]: [move.get("cell", 0) for move in game["moves"]] for game in history(player)}
            assert finished == dict(each.acknowledged)
            assert len(each.acknowledged) == games
    has_no_drift(deployment)
    for replicas, kind in [(deployment.game, "creations"), (deployment.auth, "token_uses"), (deployment.game, "changes")]:
        writes, groups = (total(replicas, name, kind=kind) for name in ["db_group_commit_writes_total", "db_group_commits_total"])
        print(f"{kind}: {writes:.0f} writes in {groups:.0f} transactions")
    assert writes > groups > 0, "no two changes were written together"
    deployment.stop()
    # PostgreSQL counts when the connections end.
    for name in ["auth", "game"]:
        assert postgres.value(name, f"SELECT deadlocks FROM pg_stat_database WHERE datname = '{name}'") == "0"


def test_a_logout_at_one_replica_applies_at_the_others(deployment):
    user = deployment.register()
    token = user["tokens"]["accessToken"]
    import grpc

    assert deployment.rest(token).post("/v1/auth/logout", json={}).status_code == 200
    for replica, path in [(each, "/auth.v1.AccountService/GetMe") for each in deployment.auth] + [(each, "/game.v1.LeaderboardService/GetLeaderboard") for each in deployment.game]:
        client = api.Client(grpc.insecure_channel(replica.grpc))
        until(lambda client=client, path=path: _code(client, path, token) == "UNAUTHENTICATED", f"{replica.service} {replica.number}", 1)
    assert deployment.rest().post("/v1/auth/login", json={"identifier": user["user"]["login"], "password": PASSWORD}).status_code == 200


def _code(client, path, token):
    try:
        client.call(path, {}, token)
    except Exception as error:  # a grpc.RpcError
        return error.code().name
    return "OK"
