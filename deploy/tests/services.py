"""Both services without a gateway, and clients that know only their addresses."""

import base64
import json
import secrets
import uuid

from conftest import FEED_ON_POSTGRES, KEYS_BY_GRPC, KEYS_BY_HTTP, PASSWORD, STANDALONE, Deployment
from reflection import ReflectedClient
from replicas import Replicas, write_secret

AUTH, ACCOUNT, KEYS = "/auth.v1.AuthService", "/auth.v1.AccountService", "/auth.v1.KeyService"
USERS, RBAC, AUDIT = "/auth.v1.UserService", "/auth.v1.RbacService", "/auth.v1.AuditService"
GAME, HISTORY, LEADERBOARD = "/game.v1.GameService", "/game.v1.HistoryService", "/game.v1.LeaderboardService"
HEALTH = "/grpc.health.v1.Health"


class TwoPrograms(Replicas):
    """One process of each service, without preparation by commands.

    Files hold the service account and the first administrator's password.
    """

    def __init__(self, folder, urls, way, settings):
        super().__init__(folder, urls, count=1)
        self.way, self.settings = way, settings
        self.accounts_file, self.password_file = folder / "accounts.json", folder / "admin-password"

    def begin(self):
        write_secret(self.secret_file, base64.b64encode(secrets.token_bytes(32)).decode() + "\n")
        for file in [self.game_secret_file, self.password_file]:
            write_secret(file, secrets.token_urlsafe(32) + "\n")
        secret = self.game_secret_file.read_text().strip()
        accounts = [{"client_id": "game-service", "secret": secret, "roles": ["service"]}]
        write_secret(self.accounts_file, json.dumps(accounts))

    def arguments(self, service):
        drain = ["--drain-timeout-seconds", "1"]
        if service == "auth-service":
            files = ["--auth-secret-file", self.secret_file, "--service-accounts-file", self.accounts_file]
            files += ["--bootstrap-admin-password-file", self.password_file]
            return [*self.settings, *files, *drain]
        by_grpc = ["--auth-grpc-url", f"http://{self.auth[0].grpc}"]
        account = ["--auth-client-id", "game-service", "--auth-client-secret-file", self.game_secret_file]
        keys = {
            KEYS_BY_GRPC: by_grpc,
            KEYS_BY_HTTP: ["--auth-jwks-url", f"http://{self.auth[0].http}/.well-known/jwks.json"],
            FEED_ON_POSTGRES: [*by_grpc, *account],
        }
        return [*keys[self.way], *drain]


class Services:
    """Both services, run in one of the WAYS. They keep ports and data across a restart."""

    ADMIN_PASSWORD = "a new long password"

    def __init__(self, folder, way, settings, postgres):
        self.is_standalone = way == STANDALONE
        if self.is_standalone:
            self.deployment = Deployment(folder, settings=settings)
            self.password_file = folder / "data" / "admin-password"
            self.auth_address, self.auth_http = self.deployment.at("auth"), self.deployment.at("auth_http")
            self.game_address, self.game_http = self.deployment.at("game"), self.deployment.at("game_http")
        else:
            urls = [f"sqlite:{folder / name}.db" for name in ["auth", "game"]]
            if way == FEED_ON_POSTGRES:
                urls = [postgres().database(f"{name}_{uuid.uuid4().hex}") for name in ["auth", "game"]]
            self.deployment = TwoPrograms(folder, urls, way, settings)
            self.password_file = self.deployment.password_file
            [auth], [game] = self.deployment.auth, self.deployment.game
            self.auth_address, self.auth_http = auth.grpc, auth.http
            self.game_address, self.game_http = game.grpc, game.http

    def start(self, auth_reflection="v1alpha", game_reflection="v1"):
        if self.is_standalone:
            self.deployment.start_standalone()
        else:
            self.deployment.start_services()
        self.auth = ReflectedClient(self.auth_address, auth_reflection)
        self.game = ReflectedClient(self.game_address, game_reflection)
        return self

    def stop(self):
        """Stops the programs as an init system does, and returns their exit codes."""
        if self.is_standalone:
            return [self.deployment.standalone.stop()]
        return [replica.stop() for replica in [*self.deployment.game, *self.deployment.auth]]

    def register(self, login=None):
        """Registers a new user, and returns the answer."""
        login = login or f"p{uuid.uuid4().hex[:12]}"
        names = {"firstName": login.title(), "lastName": "Example"}
        account = {"login": login, "email": f"{login}@example.com", "password": PASSWORD}
        return self.auth.call(f"{AUTH}/Register", {**account, "passwordConfirmation": PASSWORD, **names})

    def login(self, identifier, **fields):
        return self.auth.call(f"{AUTH}/Login", {"identifier": identifier, "password": PASSWORD, **fields})

    def first_login(self):
        """Logs the first administrator in with the temporary password and then with a new one.

        Returns the refusal of the former and the access token of the latter.
        """
        temporary, new = self.password_file.read_text().strip(), self.ADMIN_PASSWORD
        credentials = {"identifier": "admin", "password": temporary}
        refusal = self.auth.refusal(f"{AUTH}/Login", credentials)
        self.auth.call(f"{AUTH}/Login", {**credentials, "newPassword": new, "newPasswordConfirmation": new})
        return refusal, self.login("admin", password=new)["tokens"]["accessToken"]
