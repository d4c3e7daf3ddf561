"""The Python example that verifies tokens and follows the access feed: each rule alone, and the whole with a real auth-service."""

import asyncio
import base64
import importlib.util
import re
import signal
import subprocess
import sys
import threading
import time
import types
import uuid

import grpc
import jwt
import pytest
from conftest import ROOT, until
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from replicas import write_secret

# Seconds within which a change must take effect.
AT_ONCE = 1


FOLLOWER = ROOT / "deploy" / "examples" / "follower.py"
GUIDE = ROOT / "deploy" / "docs" / "your-own-service.md"


@pytest.fixture(scope="session")
def generated(tmp_path_factory):
    """Folder with the code that the example needs, generated as in the guide."""
    generated = tmp_path_factory.mktemp("generated")
    protos = sorted((ROOT / "proto").glob("auth*/v1/*.proto"))
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", ROOT / "proto", f"--python_out={generated}", f"--grpc_python_out={generated}", *protos]
    subprocess.run(command, check=True)
    return generated


@pytest.fixture(scope="session")
def follower(generated):
    """The example as a module."""
    sys.path.insert(0, str(generated))
    spec = importlib.util.spec_from_file_location("follower", FOLLOWER)
    module = importlib.util.module_from_spec(spec)
    sys.modules["follower"] = module
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(generated))


class Feed:
    """View, with messages of a feed for it and tokens signed by that feed's key."""

    def __init__(self, follower):
        from auth.v1 import access_feed_service_pb2, key_service_pb2

        self.follower, self.messages, self.jwk = follower, access_feed_service_pb2, key_service_pb2.Jwk
        self.now = 0.0
        self.view = follower.View("auth-service", ["game-backend", "courses"], monotonic=lambda: self.now)
        self.epoch, self.sequence = str(uuid.uuid4()), 0
        self.key = Ed25519PrivateKey.generate()
        self.intake = follower.Intake(self.view)

    def keys_changed(self, *kids):
        x = base64.urlsafe_b64encode(self.key.public_key().public_bytes_raw()).decode().rstrip("=")
        keys = [self.jwk(kty="OKP", crv="Ed25519", x=x, kid=kid) for kid in kids]
        return self.messages.AccessEvent(keys_changed=self.messages.KeysChanged(keys=keys))

    def session_revoked(self, session):
        return self.messages.AccessEvent(session_revoked=self.messages.SessionRevoked(session_id=session))

    def user_revoked(self, user, version):
        return self.messages.AccessEvent(user_tokens_revoked=self.messages.UserTokensRevoked(user_id=user, min_version=version))

    def role(self, name, *permissions, is_deleted=False):
        role = self.messages.RoleChanged(code_name=name, permissions=permissions, is_deleted=is_deleted)
        return self.messages.AccessEvent(role_changed=role)

    def message(self, *events, server_time=None, **fields):
        for event in events:
            self.sequence += 1
            event.sequence = self.sequence
        fields = {"epoch": self.epoch, "sequence": self.sequence, "revocation_seconds": 930, "is_caught_up": True, **fields}
        message = self.messages.WatchResponse(events=events, **fields)
        message.server_time.FromSeconds(server_time or int(time.time()))
        return message

    def snapshot(self, *events, **fields):
        """Starts another stream with this snapshot."""
        self.intake = self.follower.Intake(self.view)
        self.intake.apply(self.message(*events, is_snapshot=True, **fields))

    def says(self, *events, **fields):
        self.intake.apply(self.message(*events, **fields))

    def token(self, header=None, drop=(), **claims):
        now = int(time.time())
        claims = {
            **{"iss": "auth-service", "aud": "game-backend", "sub": str(uuid.uuid4()), "jti": str(uuid.uuid4()), "client_id": "first-party"},
            **{"exp": now + 600, "iat": now, "nbf": now, "sid": str(uuid.uuid4()), "ver": 0, "roles": ["player"], "permissions": []},
            **{"preferred_username": "ann", **claims},
        }
        for name in drop:
            del claims[name]
        return jwt.encode(claims, self.key, algorithm="EdDSA", headers={"typ": "at+jwt", "kid": "k1", **(header or {})})

    def refusal(self, token, *permission, **options):
        try:
            self.view.check(token, *permission, **options)
        except self.follower.Refused as refused:
            return str(refused)
        return None


@pytest.fixture
def feed(follower):
    return Feed(follower)


@pytest.fixture
def known(feed):
    """Feed whose first snapshot has arrived."""
    feed.snapshot(feed.keys_changed("k1"), feed.role("player", "courses:read"))
    return feed


def test_the_back_off_has_an_upper_limit(follower):
    assert [follower.backoff(failures) for failures in [0, 1, 2, 5, 2_000]] == [0.1, 0.2, 0.4, 2, 2]


def test_nothing_is_allowed_before_the_first_snapshot_is_complete(feed):
    assert feed.refusal(feed.token()) == "STARTING"
    feed.snapshot(feed.keys_changed("k1"), is_caught_up=False)
    assert feed.refusal(feed.token()) == "STARTING"
    feed.says(feed.role("player", "courses:read"), is_snapshot=True)
    assert feed.refusal(feed.token(), "courses:read") is None


def test_only_access_tokens_for_this_service_are_accepted(known):
    now = int(time.time())
    for bad in [
        known.token({"typ": "JWT"}),
        known.token({"kid": "k2"}),
        known.token({"jku": "https://evil.example/keys"}),
        known.token(iss="another"),
        known.token(aud="game-service"),
        known.token(drop=["sid"]),
        known.token(drop=["ver"]),
        known.token()[:-4] + "AAAA",
        jwt.encode({"iss": "auth-service"}, "0" * 32, algorithm="HS256", headers={"typ": "at+jwt", "kid": "k1"}),
        "",
    ]:
        assert known.refusal(bad) == "TOKEN_INVALID", bad
    assert known.refusal(known.token(exp=now - 31)) == "TOKEN_EXPIRED"
    assert known.refusal(known.token(nbf=now + 60, iat=now + 60)) == "TOKEN_NOT_YET_VALID"
    for good in [known.token(), known.token(aud="courses"), known.token(aud=["courses", "x"]), known.token(exp=now - 20)]:
        assert known.refusal(good) is None
    assert known.refusal(known.token(client_id="billing", drop=["sid"])) is None


@pytest.mark.parametrize(
    ("roles", "direct", "held", "allowed"),
    [
        ([], [], [], False),
        (["player"], [], ["courses:read"], True),
        (["player"], [], ["courses:all"], True),
        (["player"], [], ["courses:update", "games:all"], False),
        (["superuser"], [], [], True),
        ([], ["courses:read"], [], True),
        ([], ["courses:all"], [], True),
        ([], ["course:all"], [], False),
        (["unknown"], [], ["courses:read"], False),
    ],
)
def test_a_permission_is_held_through_a_role_directly_or_as_superuser(known, roles, direct, held, allowed):
    known.says(known.role("player", *held))
    refusal = known.refusal(known.token(roles=roles, permissions=direct), "courses:read")
    assert refusal == (None if allowed else "PERMISSION_DENIED")


def test_a_deleted_role_holds_nothing(known):
    known.says(known.role("player", is_deleted=True))
    assert known.refusal(known.token(), "courses:read") == "PERMISSION_DENIED"


def test_a_revocation_is_kept_for_the_stated_time_by_the_monotonic_clock(known):
    session, user = str(uuid.uuid4()), str(uuid.uuid4())
    ended, stale, fresh = known.token(sid=session), known.token(sub=user, ver=1), known.token(sub=user, ver=2)
    known.says(known.session_revoked(session), known.user_revoked(user, 2))
    assert [known.refusal(token) for token in [ended, stale, fresh]] == ["TOKEN_REVOKED", "TOKEN_STALE", None]
    known.now = 929
    known.says()
    assert [known.refusal(token) for token in [ended, stale, fresh]] == ["TOKEN_REVOKED", "TOKEN_STALE", None]
    known.now = 930
    known.says()
    assert [known.refusal(token) for token in [ended, stale, fresh]] == [None, None, None]


def test_a_snapshot_replaces_roles_and_keys_and_keeps_revocations_for_older_tokens(known, monkeypatch):
    session, user, long_ago = str(uuid.uuid4()), str(uuid.uuid4()), int(time.time()) - 100
    ended, stale = known.token(sid=session, iat=long_ago), known.token(sub=user, ver=1, iat=long_ago)
    known.says(known.session_revoked(session), known.user_revoked(user, 2), known.role("tutor", "courses:update"))
    # A minute ago, a database that lost all of this began a new epoch of the feed.
    monkeypatch.setattr(known.follower, "time", types.SimpleNamespace(time=lambda: long_ago + 40))
    known.epoch, known.sequence = str(uuid.uuid4()), 0
    known.snapshot(known.keys_changed("k1"), known.role("player"), is_caught_up=False)
    assert known.refusal(known.token(), "courses:read") is None, "half of a snapshot counts for nothing"
    known.says(is_snapshot=True, server_time=long_ago + 20)
    assert known.refusal(known.token(), "courses:read") == "PERMISSION_DENIED"
    assert known.refusal(known.token(roles=["tutor"]), "courses:update") == "PERMISSION_DENIED"
    assert [known.refusal(token) for token in [ended, stale]] == ["TOKEN_REVOKED", "TOKEN_STALE"]
    # In the new history the user's version may be lower than it was.
    assert known.refusal(known.token(sub=user, ver=1)) is None


def test_a_withdrawn_key_never_comes_back(known):
    token = known.token()
    known.says(known.keys_changed("k2"))
    assert known.refusal(token) == "TOKEN_INVALID"
    for back in [lambda: known.says(known.keys_changed("k1", "k2")), lambda: known.snapshot(known.keys_changed("k1", "k2"))]:
        back()
        assert known.refusal(token) == "TOKEN_INVALID"


def test_invalid_messages_end_the_stream(known):
    for wrong in [
        known.message(is_snapshot=True),
        known.message(epoch=str(uuid.uuid4())),
        known.message(sequence=known.sequence - 1),
    ]:
        with pytest.raises(ValueError):
            known.intake.apply(wrong)
    known.intake = known.follower.Intake(known.view)
    with pytest.raises(ValueError):
        known.says()
    assert known.refusal(known.token(), "courses:read") is None


def test_while_the_feed_is_silent_only_writes_are_refused(known):
    known.now = 5
    assert known.refusal(known.token(), "courses:read") is None
    known.now = 5.1
    assert known.refusal(known.token(), "courses:read") == "ACCESS_FEED_SILENT"
    assert known.refusal(known.token(), "courses:read", is_read=True) is None
    known.says()
    assert known.refusal(known.token(), "courses:read") is None


def answers_of_the_guarded_server(known, calls):
    """Serves the RPCs of the guide, each of which answers with its caller's name, and returns what each call gets."""
    from google.rpc import error_details_pb2, status_pb2

    [block] = re.findall(r"^```python protection\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    follower = known.follower

    async def name_of_caller(_, context):
        claims = follower.CALLER.get()
        return (claims["preferred_username"] if claims else "anybody").encode()

    class Rpcs(grpc.GenericRpcHandler):
        def service(self, _):
            return grpc.unary_unary_rpc_method_handler(name_of_caller)

    def refusal(error):
        details = dict(error.trailing_metadata())["grpc-status-details-bin"]
        status, info = status_pb2.Status.FromString(details), error_details_pb2.ErrorInfo()
        assert status.code == error.code().value[0] and status.details[0].Unpack(info)
        assert info.domain == "authz.v1"
        return error.code().name, info.reason

    async def run():
        scope = {"grpc": grpc, "view": known.view, "Protection": follower.Protection}
        exec(block, scope)
        server = scope["server"]
        server.add_generic_rpc_handlers([Rpcs()])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        got = []
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            for path, *sent in calls:
                metadata = [("authorization", each) for each in sent]
                try:
                    got.append((await channel.unary_unary(path)(b"", metadata=metadata, timeout=10)).decode())
                except grpc.aio.AioRpcError as error:
                    got.append(refusal(error))
        await server.stop(None)
        return got

    return asyncio.run(run())


def test_the_interceptor_answers_as_the_services_do(feed):
    read, delete, health = "/courses.v1.CoursesService/ListCourses", "/courses.v1.CoursesService/DeleteCourse", "/grpc.health.v1.Health/Check"
    player = f"Bearer {feed.token()}"
    starting = answers_of_the_guarded_server(feed, [(read, player), (health,)])
    assert starting == [("UNAVAILABLE", "STARTING"), "anybody"]
    feed.snapshot(feed.keys_changed("k1"), feed.role("player", "courses:read"), feed.role("tutor", "courses:delete"))
    tutor = f"bearer {feed.token(roles=['tutor'])}"
    calls = [(read, player), (read, tutor), (delete, tutor), (read,), (read, player, player), (read, "Bearer x"), (read, "Basic x")]
    assert answers_of_the_guarded_server(feed, [*calls, ("/courses.v1.CoursesService/New", player)]) == [
        "ann",
        ("PERMISSION_DENIED", "PERMISSION_DENIED"),
        "ann",
        ("UNAUTHENTICATED", "TOKEN_MISSING"),
        *[("UNAUTHENTICATED", "TOKEN_INVALID")] * 3,
        ("PERMISSION_DENIED", "POLICY_MISSING"),
    ]
    feed.now = 6
    assert answers_of_the_guarded_server(feed, [(read, player), (delete, tutor)]) == ["ann", ("UNAVAILABLE", "ACCESS_FEED_SILENT")]


@pytest.fixture
def account(own_gateway, tmp_path):
    """Deployment, a client of its administrator, and the file with the secret of a service account."""
    gateway = own_gateway()
    root = gateway.rest(gateway.administrator())
    made = root.post("/v1/service-accounts", json={"clientId": "lessons", "roles": ["service"]})
    assert made.status_code == 200, made.text
    secret = tmp_path / "lessons-secret"
    write_secret(secret, made.json()["clientSecret"] + "\n")
    return gateway, root, secret


@pytest.fixture
def following(follower, account):
    """The example beside a real auth-service."""
    gateway, root, secret = account
    view = follower.View("auth-service", ["game-backend", "lessons"])
    loop = asyncio.new_event_loop()
    task = loop.create_task(follower.follow(view, gateway.at("auth"), "lessons", secret))
    thread = threading.Thread(target=lambda: loop.run_until_complete(asyncio.gather(task, return_exceptions=True)))
    thread.start()

    def refusal(token, *permission, **options):
        try:
            view.check(token, *permission, **options)
        except follower.Refused as refused:
            return str(refused)
        return None

    try:
        until(lambda: view.epoch, "the first snapshot")
        yield gateway, root, refusal
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
        loop.close()


def test_it_follows_tokens_logouts_and_roles_of_a_real_service(following):
    gateway, root, refusal = following
    user = gateway.register()
    token = user["tokens"]["accessToken"]
    assert refusal(token, "leaderboard:read") is None
    assert refusal(token, "users:read") == "PERMISSION_DENIED"
    assert refusal(gateway.administrator(), "users:read") is None
    other = {"identifier": user["user"]["login"], "password": "correct horse", "audience": "game-service"}
    elsewhere = gateway.rest().post("/v1/auth/login", json=other).json()["tokens"]["accessToken"]
    assert refusal(elsewhere) == "TOKEN_INVALID"

    held = root.get("/v1/roles/player").json()["role"]["permissions"]
    rest = [each for each in held if each != "leaderboard:read"]
    assert root.post("/v1/roles/player:setPermissions", json={"permissions": rest}).status_code == 200
    until(lambda: refusal(token, "leaderboard:read") == "PERMISSION_DENIED", "the role has lost it", AT_ONCE)
    assert root.post("/v1/roles/player:setPermissions", json={"permissions": held}).status_code == 200
    until(lambda: refusal(token, "leaderboard:read") is None, "and has it again", AT_ONCE)

    path = f"/v1/users/{user['user']['userId']}"
    assert root.post(f"{path}:grantPermission", json={"permission": "users:read"}).status_code == 200
    until(lambda: refusal(token) == "TOKEN_STALE", "the grant makes the token stale", AT_ONCE)
    tokens = gateway.rest().post("/v1/auth/rotate", json={"refreshToken": user["tokens"]["refreshToken"]}).json()["tokens"]
    until(lambda: refusal(tokens["accessToken"], "users:read") is None, "a direct grant counts", AT_ONCE)

    assert gateway.rest().post("/v1/auth/logout", json={"refreshToken": tokens["refreshToken"]}).status_code == 200
    until(lambda: refusal(tokens["accessToken"]) == "TOKEN_REVOKED", "the logout", AT_ONCE)


def test_writes_are_refused_while_a_real_service_is_silent(following):
    gateway, _, refusal = following
    token = gateway.player()
    assert refusal(token) is None
    gateway.standalone.send(signal.SIGSTOP)
    try:
        until(lambda: refusal(token) == "ACCESS_FEED_SILENT", "writes are refused", 10)
        assert refusal(token, is_read=True) is None
    finally:
        gateway.standalone.send(signal.SIGCONT)
    until(lambda: refusal(token) is None, "and go on", 10)


def test_the_program_prints_a_verdict_on_each_token(account, generated):
    gateway, _, secret = account
    user = gateway.register()
    token = user["tokens"]["accessToken"]
    command = [sys.executable, FOLLOWER, gateway.at("auth"), "lessons", secret]
    program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env={"PYTHONPATH": str(generated)})

    def says(line):
        program.stdin.write(f"{line}\n")
        return program.stdout.readline().strip()

    try:
        until(lambda: says(token) != "STARTING", "the first snapshot", 10)
        assert says(f"{token} leaderboard:read") == user["user"]["login"]
        assert says(f"{token} users:read") == "PERMISSION_DENIED"
        program.stdin.close()
        assert program.wait(10) == 0
    finally:
        program.kill()
