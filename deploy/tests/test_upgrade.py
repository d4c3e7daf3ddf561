"""Upgrades an earlier version under load, one process after the other, and checks that nothing is lost."""

import contextlib
import os
import pathlib
import signal
import subprocess

import grpc
import pytest
from conftest import PASSWORD, PROGRAMS, ROOT, until
from postgres import Postgres
from replicas import Replicas
from test_replicas import load

import api

# Commit 970bf8a, the last one before 0.2.0.
PREVIOUS = pathlib.Path(os.environ.get("PREVIOUS_PROGRAMS", ROOT / "target" / "previous" / "debug"))


@pytest.fixture
def previous():
    missing = [name for name in ["auth-service", "game-service"] if not (PREVIOUS / name).exists()]
    assert not missing, f"{missing} of the earlier version are not in {PREVIOUS}: run `bash .ci/previous`"
    known = subprocess.run([PREVIOUS / "auth-service", "serve", "--help"], capture_output=True, text=True, check=True).stdout
    assert "--admit-deployment-tokens" not in known, "this is the present version"
    return PREVIOUS


@contextlib.contextmanager
def begun(folder, urls, programs, count):
    deployment = Replicas(folder, urls, count, auth=["--drain-timeout-seconds", "10"], game=["--drain-timeout-seconds", "10"], programs=programs)
    try:
        yield deployment.start()
    finally:
        deployment.stop()


class Remembered:
    """State that users created in the earlier version, and that must survive the upgrade."""

    def __init__(self, deployment):
        self.deployment = deployment
        root = deployment.administrator()
        self.ann, self.bob, self.cyd = (deployment.register(login) for login in ["ann", "bob", "cyd"])
        ok(root.post("/v1/roles", json={"codeName": "support", "name": "Support"}))
        ok(root.post("/v1/roles/support:setPermissions", json={"permissions": ["users:read"]}))
        ok(root.post(f"/v1/users/{self.ann['user']['userId']}:assignRole", json={"role": "support"}))
        self.ann = ok(deployment.login("ann"))
        # One user logs out and one is deactivated, so their tokens are refused.
        ok(self.rest(self.bob).post("/v1/auth/logout", json={"refreshToken": self.bob["tokens"]["refreshToken"]}))
        ok(root.post(f"/v1/users/{self.cyd['user']['userId']}:deactivate", json={}))
        # An address that this version compares differently.
        self.deployment.register("zoe", email="Zoë.Groß@bücher.example")
        self.won = self.play_out(self.ann)
        self.game = ok(self.rest(self.ann).post("/v1/games", json={"opponent": "OPPONENT_COMPUTER", "mark": "MARK_X"}))["game"]
        self.rank = ok(self.rest(self.ann).get("/v1/leaderboard/rank"))["entry"]
        self.events = self.audited()

    def rest(self, user):
        return self.deployment.rest(user["tokens"]["accessToken"])

    def play_out(self, user):
        game = ok(self.rest(user).post("/v1/games", json={"opponent": "OPPONENT_COMPUTER", "mark": "MARK_X"}))["game"]
        while game["state"] == "GAME_STATE_TURN":
            move = {"cell": game["board"].index("."), "expectedVersion": game["version"]}
            game = ok(self.rest(user).post(f"/v1/games/{game['gameId']}:move", json=move))["game"]
        return game["gameId"]

    def audited(self):
        events = ok(self.deployment.administrator().get(f"/v1/audit-events?subjectUserId={self.cyd['user']['userId']}"))["events"]
        return {event["eventId"] for event in events}

    def is_reachable(self):
        return all(self.rest(self.ann).get(path).status_code == 200 for path in ["/v1/me", "/v1/leaderboard"])

    def holds(self):
        # Earlier tokens are still accepted, and can be refreshed.
        me = ok(self.rest(self.ann).get("/v1/me"))
        assert me["roles"] == ["player", "support"] and "users:read" in me["permissions"]
        ok(self.rest(self.ann).get("/v1/users"))
        ok(self.deployment.rest().post("/v1/auth/refresh", json={"refreshToken": self.ann["tokens"]["refreshToken"]}))
        # Revoked tokens stay revoked, at both services.
        for user, reason in [(self.bob, "TOKEN_REVOKED"), (self.cyd, "TOKEN_STALE")]:
            for path in ["/v1/me", "/v1/leaderboard"]:
                answer = self.rest(user).get(path)
                assert (answer.status_code, api.reason(answer.json()["details"])) == (401, reason), (path, answer.text)
        assert self.deployment.login("cyd").status_code == 401
        assert self.deployment.login("bob").status_code == 200
        assert self.deployment.login("zoe").status_code == 200
        assert self.audited() >= self.events
        # Games, history and ranks are as they were.
        game = ok(self.rest(self.ann).get(f"/v1/games/{self.game['gameId']}"))["game"]
        assert (game["board"], game["version"]) == (self.game["board"], self.game["version"])
        finished = ok(self.rest(self.ann).get("/v1/finished-games"))["games"]
        assert [each["gameId"] for each in finished] == [self.won]
        rank = ok(self.rest(self.ann).get("/v1/leaderboard/rank"))["entry"]
        assert {name: rank[name] for name in rank if name != "rank"} == {name: self.rank[name] for name in rank if name != "rank"}

    def changes_are_heard(self):
        """Checks that a logout at any auth-service reaches every process, whatever their versions."""
        everywhere = {
            "/auth.v1.AccountService/GetMe": [each.grpc for each in self.deployment.auth],
            "/game.v1.LeaderboardService/GetLeaderboard": [each.grpc for each in self.deployment.game],
        }
        for replica in self.deployment.auth:
            tokens = self.deployment.register()["tokens"]
            for path, addresses in everywhere.items():
                for address in addresses:
                    client(address).call(path, {}, tokens["accessToken"])
            client(replica.grpc).call("/auth.v1.AuthService/Logout", {"refreshToken": tokens["refreshToken"]})
            for path, addresses in everywhere.items():
                for address in addresses:

                    def is_refused(path=path, address=address, token=tokens["accessToken"]):
                        try:
                            client(address).call(path, {}, token)
                        except grpc.RpcError as error:
                            return error.code() == grpc.StatusCode.UNAUTHENTICATED
                        return False

                    until(is_refused, f"refused by {address}", 10)

    def go_on(self):
        """Continues a game, a session and a password change that began in the earlier version."""
        move = {"cell": self.game["board"].index("."), "expectedVersion": self.game["version"]}
        ok(self.rest(self.ann).post(f"/v1/games/{self.game['gameId']}:move", json=move))
        rotated = ok(self.deployment.rest().post("/v1/auth/rotate", json={"refreshToken": self.ann["tokens"]["refreshToken"]}))
        change = {"currentPassword": PASSWORD, "newPassword": "battery staple", "newPasswordConfirmation": "battery staple"}
        ok(self.deployment.rest(rotated["tokens"]["accessToken"]).post("/v1/me/password", json=change))
        answer = self.rest(self.ann).get("/v1/me")
        assert answer.status_code == 401, "the password has changed"
        assert self.deployment.login("ann").status_code == 401
        # The address is now found in every spelling.
        assert self.deployment.login("zoë.gross@xn--bcher-kva.EXAMPLE").status_code == 200


class Guests:
    """A guest who plays while replicas of both versions serve. None of the games counts."""

    def __init__(self, deployment):
        self.deployment = deployment
        self.guest = self.player = None

    def play(self, is_new):
        """Plays a game at each game-service, and looks at the guest by each auth-service."""
        if not is_new["auth"]:
            return
        if not self.guest:
            new = client(self.deployment.auth[is_new["auth"][0]].grpc)
            self.guest = new.call("/auth.v1.AuthService/RegisterGuest", {})
            self.player = self.deployment.register("vic")
        token, player = (each["tokens"]["accessToken"] for each in [self.guest, self.player])
        for replica in self.deployment.auth:
            # The earlier version reads the row as that of any user, and refuses a password for it.
            me = client(replica.grpc).call("/auth.v1.AccountService/GetMe", {}, token)
            assert (me["user"]["login"], me["roles"]) == (self.guest["user"]["login"], ["guest"])
            client(replica.grpc).call("/auth.v1.AuthService/RefreshAccessToken", {"refreshToken": self.guest["tokens"]["refreshToken"]})
            error = client(replica.grpc).refused("/auth.v1.AuthService/Login", {"identifier": me["user"]["login"], "password": PASSWORD})
            assert error.code() == grpc.StatusCode.UNAUTHENTICATED
        if not is_new["game"]:
            # Nothing has given the role a permission yet.
            for replica in self.deployment.game:
                error = client(replica.grpc).refused("/game.v1.GameService/CreateGame", {"opponent": "OPPONENT_COMPUTER"}, token)
                assert error.code() == grpc.StatusCode.PERMISSION_DENIED
            return
        for replica in self.deployment.game:
            lobby = client(replica.grpc)
            game = until(lambda lobby=lobby: self.created(lobby, token), "a game of the guest")
            lobby.call("/game.v1.GameService/JoinGame", {"gameId": game["gameId"]}, player)
            for mover, cell, version in [(token, 0, 2), (player, 3, 3), (token, 1, 4), (player, 4, 5), (player, None, None)]:
                if cell is None:
                    lobby.call("/game.v1.GameService/ResignGame", {"gameId": game["gameId"]}, token)
                else:
                    lobby.call("/game.v1.GameService/MakeMove", {"gameId": game["gameId"], "cell": cell, "expectedVersion": version}, mover)

    def created(self, lobby, token):
        try:
            return lobby.call("/game.v1.GameService/CreateGame", {"opponent": "OPPONENT_PLAYER", "mark": "MARK_X"}, token)["game"]
        except grpc.RpcError as error:
            # The permission is on its way by the access feed.
            assert error.code() == grpc.StatusCode.PERMISSION_DENIED
            return None

    def count_for_nobody(self):
        """Results that an earlier replica has counted are taken back."""
        rest = self.deployment.rest(self.player["tokens"]["accessToken"])
        until(lambda: ok(rest.get("/v1/leaderboard/rank"))["entry"]["wins"] == "0", "no wins", 15)
        games = ok(rest.get("/v1/finished-games"))["games"]
        assert games and not any(game["isRanked"] for game in games)
        credential = {"guestCredential": self.guest["guestCredential"]}
        again = ok(self.deployment.rest().post("/v1/auth/login-guest", json=credential))
        account = {"login": "wes", "email": "wes@example.com", "password": PASSWORD, "passwordConfirmation": PASSWORD}
        upgraded = ok(self.deployment.rest(again["tokens"]["accessToken"]).post("/v1/me:upgrade", json=account))
        assert upgraded["user"]["userId"] == self.guest["user"]["userId"]


class Administration:
    """Changes that an administrator makes while replicas of both versions serve: begun at one version, and continued at the other."""

    def __init__(self, deployment):
        self.deployment = deployment
        self.made = 0

    def change(self, is_new):
        new = [replica for replica in self.deployment.auth if replica.number in is_new["auth"]]
        old = [replica for replica in self.deployment.auth if replica.number not in is_new["auth"]]
        for first, second in [(new, old), (old, new)] if new and old else []:
            # Tokens of the earlier version do not say when their user logged in, so they change nothing at the new one.
            root = client(new[0].grpc).call("/auth.v1.AuthService/Login", {"identifier": "root", "password": PASSWORD})["tokens"]["accessToken"]
            self.change_across(client(first[0].grpc), client(second[0].grpc), root)

    def change_across(self, first, second, root):
        self.made += 1
        role, login = f"helper_{self.made}", f"helper-{self.made}"
        first.call("/auth.v1.RbacService/CreateRole", {"role": {"codeName": role, "name": f"Helper {self.made}"}}, root)
        account = {"login": login, "email": f"{login}@example.com", "password": "temporary horse"}
        user = {"userId": first.call("/auth.v1.UserService/CreateUser", account, root)["user"]["userId"]}
        second.call("/auth.v1.RbacService/SetRolePermissions", {"role": role, "permissions": ["users:read"]}, root)
        second.call("/auth.v1.RbacService/AssignRole", {**user, "role": role}, root)
        second.call("/auth.v1.UserService/DeactivateUser", user, root)
        first.call("/auth.v1.UserService/ReactivateUser", user, root)
        # The first login ends the temporary password, and the other version takes the new one.
        new = {"newPassword": PASSWORD, "newPasswordConfirmation": PASSWORD}
        second.call("/auth.v1.AuthService/Login", {"identifier": login, "password": "temporary horse", **new})
        token = first.call("/auth.v1.AuthService/Login", {"identifier": login, "password": PASSWORD})["tokens"]["accessToken"]
        for replica in self.deployment.auth:
            me = client(replica.grpc).call("/auth.v1.AccountService/GetMe", {}, token)
            assert me["user"]["login"] == login and sorted(me["roles"]) == [role, "player"]
            # The permissions of the role come by the access feed.
            until(lambda replica=replica: self.may_list(replica, token), f"the permission of {role} at {replica.grpc}", 10)
        # A permission that one version takes away is refused by the other.
        first.call("/auth.v1.RbacService/SetRolePermissions", {"role": role, "permissions": []}, root)
        for replica in self.deployment.auth:
            until(lambda replica=replica: not self.may_list(replica, token), f"no permission of {role} at {replica.grpc}", 10)

    def may_list(self, replica, token):
        try:
            client(replica.grpc).call("/auth.v1.UserService/ListUsers", {}, token)
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.PERMISSION_DENIED, error
            return False
        return True


def ok(answer):
    assert answer.status_code == 200, answer.text
    return answer.json()


def client(address):
    return api.Client(grpc.insecure_channel(address))


def upgrade(deployment):
    remembered = Remembered(deployment)
    remembered.holds()
    guests, administration, is_new = Guests(deployment), Administration(deployment), {"auth": [], "game": []}
    with load(deployment):
        deployment.programs = PROGRAMS
        for replica in [*deployment.auth, *deployment.game]:
            assert replica.stop(signal.SIGTERM) == 0
            replica.start()
            is_new[replica.service.split("-")[0]].append(replica.number)
            if len(deployment.auth) == 1:
                # No replica serves while the only one is replaced. The gateway checks every second.
                until(remembered.is_reachable, "both services behind the gateway", 10)
            # The old and the new version run side by side.
            remembered.holds()
            remembered.changes_are_heard()
            guests.play(is_new)
            administration.change(is_new)
    remembered.go_on()
    guests.count_for_nobody()
    # With one replica of auth-service, both versions never serve at the same time.
    assert administration.made > 0 or len(deployment.auth) == 1


def test_replicas_on_postgres_are_replaced_one_by_one(tmp_path, previous):
    server = Postgres()
    try:
        with begun(tmp_path, [server.database("auth"), server.database("game")], previous, count=2) as deployment:
            upgrade(deployment)
    finally:
        server.end()


def test_services_on_sqlite_are_replaced_one_after_the_other(tmp_path, previous):
    with begun(tmp_path, [f"sqlite:{tmp_path}/auth.db", f"sqlite:{tmp_path}/game.db"], previous, count=1) as deployment:
        upgrade(deployment)
