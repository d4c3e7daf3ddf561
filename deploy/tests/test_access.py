"""Revoked sessions and permissions are refused at once by both services, through the gateway, and stay refused."""

import signal
import uuid

import pytest
from conftest import PASSWORD, until
from replicas import Replicas

import api

# Seconds within which every service must refuse.
AT_ONCE = 1


@pytest.fixture
def two(tmp_path):
    """Both services as separate programs on SQLite."""
    folder = tmp_path
    deployment = Replicas(folder, [f"sqlite:{folder / 'auth.db'}", f"sqlite:{folder / 'game.db'}"], count=1)
    try:
        yield deployment.start()
    finally:
        deployment.stop()


def refusal(answer):
    return answer.status_code, api.reason(answer.json()["details"])


EVERYWHERE = ["/v1/me", "/v1/leaderboard"]


def test_a_deactivated_user_is_refused_everywhere(two):
    root = two.administrator()
    user = two.register()
    token, refresh = user["tokens"]["accessToken"], user["tokens"]["refreshToken"]
    assert root.post(f"/v1/users/{user['user']['userId']}:deactivate", json={}).status_code == 200
    for path in EVERYWHERE:
        until(lambda path=path: two.rest(token).get(path).status_code == 401, path, AT_ONCE)
        assert refusal(two.rest(token).get(path)) in [(401, "TOKEN_REVOKED"), (401, "TOKEN_STALE")]
    assert refusal(two.login(user["user"]["login"])) == (401, "CREDENTIALS_INVALID")
    assert refusal(two.rest().post("/v1/auth/rotate", json={"refreshToken": refresh})) == (401, "SESSION_ENDED")


def test_a_changed_password_ends_the_other_sessions_everywhere(two):
    user = two.register()
    other = two.login(user["user"]["login"]).json()["tokens"]
    change = {"currentPassword": PASSWORD, "newPassword": "battery staple", "newPasswordConfirmation": "battery staple"}
    changed = two.rest(user["tokens"]["accessToken"]).post("/v1/me/password", json=change)
    assert changed.status_code == 200, changed.text
    for path in EVERYWHERE:
        until(lambda path=path: two.rest(other["accessToken"]).get(path).status_code == 401, path, AT_ONCE)
    assert refusal(two.rest().post("/v1/auth/rotate", json={"refreshToken": other["refreshToken"]})) == (401, "SESSION_ENDED")
    # This session continues.
    for path in EVERYWHERE:
        assert two.rest(changed.json()["tokens"]["accessToken"]).get(path).status_code == 200


def test_a_permission_taken_from_a_role_is_refused_on_issued_tokens(two):
    root = two.administrator()
    token = two.register()["tokens"]["accessToken"]
    assert two.rest(token).get("/v1/leaderboard").status_code == 200
    role = root.get("/v1/roles/player").json()["role"]
    held = role["permissions"]
    assert "leaderboard:read" in held
    rest = [each for each in held if each != "leaderboard:read"]
    assert root.post("/v1/roles/player:setPermissions", json={"permissions": rest}).status_code == 200
    until(lambda: refusal(two.rest(token).get("/v1/leaderboard")) == (403, "PERMISSION_DENIED"), "refused", AT_ONCE)
    assert root.post("/v1/roles/player:setPermissions", json={"permissions": held}).status_code == 200
    until(lambda: two.rest(token).get("/v1/leaderboard").status_code == 200, "and given back", AT_ONCE)


def test_taking_a_role_from_a_user_makes_the_token_stale(two):
    root = two.administrator()
    user = two.register()
    token = user["tokens"]["accessToken"]
    assert root.post(f"/v1/users/{user['user']['userId']}:unassignRole", json={"role": "player"}).status_code == 200
    for path in EVERYWHERE:
        until(lambda path=path: refusal(two.rest(token).get(path)) == (401, "TOKEN_STALE"), path, AT_ONCE)
    token = two.rest().post("/v1/auth/rotate", json={"refreshToken": user["tokens"]["refreshToken"]}).json()["tokens"]["accessToken"]
    assert refusal(two.rest(token).get("/v1/leaderboard")) == (403, "PERMISSION_DENIED")


def test_while_the_feed_is_cut_reads_are_served_and_writes_refused(two):
    [auth], [game] = two.auth, two.game
    player = two.rest(two.register()["tokens"]["accessToken"])
    new_game = {"opponent": "OPPONENT_COMPUTER", "requestId": str(uuid.uuid4())}
    auth.program.send(signal.SIGSTOP)
    try:
        until(lambda: player.post("/v1/games", json=new_game).status_code == 503, "writes are refused", 10)
        assert refusal(player.post("/v1/games", json=new_game)) == (503, "ACCESS_FEED_SILENT")
        assert player.get("/v1/leaderboard").status_code == 200
        assert game.is_ready(), "a restart would not help"
    finally:
        auth.program.send(signal.SIGCONT)
    until(lambda: player.post("/v1/games", json=new_game).status_code == 200, "writes go on", 10)


def test_a_restart_keeps_logouts_and_waits_for_the_feed(two):
    [auth], [game] = two.auth, two.game
    user = two.register()
    token = user["tokens"]["accessToken"]
    assert two.rest(token).post("/v1/auth/logout", json={}).status_code == 200
    game.stop(signal.SIGKILL)
    auth.program.send(signal.SIGSTOP)
    try:
        game.start(wait=False)
        until(lambda: game.program.log().count("starting") > 1, "it starts")
        for _ in range(20):
            assert not game.is_ready(), "not before it knows what was revoked"
    finally:
        auth.program.send(signal.SIGCONT)
    game.wait()
    until(lambda: refusal(two.rest(token).get("/v1/leaderboard")) == (401, "TOKEN_REVOKED"), "refused", 10)
    auth.stop(signal.SIGKILL)
    auth.start()
    until(lambda: refusal(two.rest(token).get("/v1/me")) == (401, "TOKEN_REVOKED"), "refused here too", 10)
