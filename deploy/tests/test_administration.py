"""Calls of an administrator, and how soon they take effect in both services."""

import grpc
import pytest
from conftest import PASSWORD, WAYS_WITH_FEED, until
from services import ACCOUNT, AUDIT, AUTH, KEYS, LEADERBOARD, RBAC, USERS


@pytest.fixture
def bob(services):
    return services.register()


def check_permission(services, administrator, user):
    asked = {"userId": user["user"]["userId"], "permission": "users:read"}
    return services.auth.call(f"{RBAC}/CheckPermission", asked, administrator)["decision"]["reason"]


def test_the_first_administrator_has_to_change_the_temporary_password(first_login):
    refusal, token = first_login
    assert refusal == ("FAILED_PRECONDITION", "auth.v1/PASSWORD_CHANGE_REQUIRED", [])
    assert token


def test_an_administrator_finds_users_and_a_player_may_not(services, administrator, bob):
    user = bob["user"]
    refusal = services.auth.refusal(f"{USERS}/ListUsers", token=bob["tokens"]["accessToken"])
    assert refusal == ("PERMISSION_DENIED", "authz.v1/PERMISSION_DENIED", [])
    found = services.auth.call(f"{USERS}/ListUsers", {"query": user["login"].upper()}, administrator)["users"]
    assert [each["userId"] for each in found] == [user["userId"]]


def test_a_grant_acts_on_the_next_token_and_the_check_says_why(services, administrator, bob):
    assert check_permission(services, administrator, bob) == "REASON_NOT_GRANTED"
    grant = {"userId": bob["user"]["userId"], "permission": "users:read"}
    services.auth.call(f"{RBAC}/GrantPermission", grant, administrator)
    refusal = services.auth.refusal(f"{ACCOUNT}/GetMe", token=bob["tokens"]["accessToken"])
    assert refusal == ("UNAUTHENTICATED", "authz.v1/TOKEN_STALE", [])
    services.auth.call(f"{USERS}/ListUsers", token=services.login(bob["user"]["login"])["tokens"]["accessToken"])
    assert check_permission(services, administrator, bob) == "REASON_DIRECT_GRANT"


def test_a_deactivated_user_cannot_log_in_until_reactivated_and_both_are_audited(services, administrator, bob):
    user, credentials = {"userId": bob["user"]["userId"]}, {"identifier": bob["user"]["login"], "password": PASSWORD}
    services.auth.call(f"{USERS}/DeactivateUser", user, administrator)
    refusal = services.auth.refusal(f"{AUTH}/Login", credentials)
    assert refusal == ("UNAUTHENTICATED", "auth.v1/CREDENTIALS_INVALID", [])
    asked = {"subjectUserId": user["userId"], "action": "user.*"}
    events = services.auth.call(f"{AUDIT}/ListAuditEvents", asked, administrator)["events"]
    assert "user.deactivate" in [event["action"] for event in events]
    services.auth.call(f"{USERS}/ReactivateUser", user, administrator)
    services.auth.call(f"{AUTH}/Login", credentials)


@pytest.mark.parametrize("services", WAYS_WITH_FEED, indirect=True, scope="session")
def test_game_service_refuses_a_deactivated_user_within_a_second(services, administrator, bob):
    path, token = f"{LEADERBOARD}/GetLeaderboard", bob["tokens"]["accessToken"]
    services.game.call(path, token=token)
    services.auth.call(f"{USERS}/DeactivateUser", {"userId": bob["user"]["userId"]}, administrator)
    until(lambda: is_refused(services.game, path, token), "game-service refuses", seconds=1)
    assert services.game.refusal(path, token=token) == ("UNAUTHENTICATED", "authz.v1/TOKEN_STALE", [])


def is_refused(client, path, token):
    try:
        client.call(path, token=token)
    except grpc.RpcError as error:
        assert error.code().name == "UNAUTHENTICATED", error
        return True
    return False


def test_a_rotation_of_the_signing_key_publishes_the_next_one(services, administrator):
    def published():
        return {key["kid"] for key in services.auth.call(f"{KEYS}/GetJwks")["keys"]}

    before = published()
    next_key = services.auth.call(f"{KEYS}/RotateSigningKey", token=administrator)["signingKey"]["kid"]
    assert len(before) == 1
    assert published() == before | {next_key}
    assert len(published()) == 2
