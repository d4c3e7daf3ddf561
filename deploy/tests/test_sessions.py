"""Sessions: rotations of the refresh token, ends of sessions, and the list that a user sees."""

import uuid

import pytest
from services import ACCOUNT, AUTH


@pytest.fixture
def tokens(services):
    """Tokens of a new session."""
    return services.register()["tokens"]


@pytest.fixture
def rotate(services):
    """Rotates a refresh token with the given request id, or with a new one."""

    def rotate(token, request_id=None):
        fields = {"refreshToken": token, "requestId": request_id or str(uuid.uuid4())}
        return services.auth.call(f"{AUTH}/RotateTokens", fields)["tokens"]

    return rotate


@pytest.fixture
def refusal(services):
    """Returns the code and the reason with which RotateTokens, or another RPC, refuses a token."""

    def refusal(token, name="RotateTokens", **fields):
        code, reason, _ = services.auth.refusal(f"{AUTH}/{name}", {"refreshToken": token, **fields})
        return code, reason

    return refusal


def refresh(services, token):
    return services.auth.call(f"{AUTH}/RefreshAccessToken", {"refreshToken": token})["accessToken"]


def test_a_rotation_replaces_the_refresh_token_and_can_be_retried(tokens, rotate):
    request_id = str(uuid.uuid4())
    new = rotate(tokens["refreshToken"], request_id)["refreshToken"]
    assert new != tokens["refreshToken"]
    assert rotate(tokens["refreshToken"], request_id)["refreshToken"] == new


def test_overlapping_rotations_do_not_end_the_session(services, tokens, rotate, refusal):
    new = rotate(tokens["refreshToken"])["refreshToken"]
    met = refusal(tokens["refreshToken"], requestId=str(uuid.uuid4()))
    assert met == ("ABORTED", "auth.v1/ROTATION_OVERLAP")
    assert refresh(services, new)


def test_a_refresh_token_gives_an_access_token_without_a_rotation(services, tokens):
    for _ in range(2):
        assert services.auth.call(f"{ACCOUNT}/GetMe", token=refresh(services, tokens["refreshToken"]))


def test_an_old_token_whose_successor_was_used_ends_the_session(services, tokens, rotate, refusal):
    old, request_id = tokens["refreshToken"], str(uuid.uuid4())
    new = rotate(old, request_id)["refreshToken"]
    refresh(services, new)
    # Even with the id of the rotation: its client has received the response, so this is another client.
    assert refusal(old, requestId=request_id) == ("UNAUTHENTICATED", "auth.v1/REFRESH_TOKEN_REUSED")
    assert refusal(new) == ("UNAUTHENTICATED", "auth.v1/SESSION_ENDED")


def test_a_malformed_refresh_token_is_refused(refusal):
    assert refusal("v1.nonsense") == ("UNAUTHENTICATED", "auth.v1/REFRESH_TOKEN_INVALID")


def test_a_logout_accepts_either_token_and_can_be_repeated(services, tokens, refusal):
    other = services.register()["tokens"]
    ways = [(tokens, {"fields": {"refreshToken": tokens["refreshToken"]}}), (other, {"token": other["accessToken"]})]
    for each, way in ways:
        services.auth.call(f"{AUTH}/Logout", **way)
        ended = refusal(each["refreshToken"], "RefreshAccessToken")
        assert ended == ("UNAUTHENTICATED", "auth.v1/SESSION_ENDED")
        services.auth.call(f"{AUTH}/Logout", token=each["accessToken"])


def test_a_login_replaces_the_session_of_its_device(services, refusal):
    login = services.register()["user"]["login"]
    first = services.login(login)
    services.login(login, deviceToken=first["deviceToken"])
    ended = refusal(first["tokens"]["refreshToken"], "RefreshAccessToken")
    assert ended == ("UNAUTHENTICATED", "auth.v1/SESSION_ENDED")


def test_a_user_sees_the_address_and_user_agent_of_each_session(services):
    login = services.register()["user"]["login"]
    token = services.login(login)["tokens"]["accessToken"]
    sessions = services.auth.call(f"{ACCOUNT}/ListMySessions", token=token)["sessions"]
    assert [session["isCurrent"] for session in sessions].count(True) == 1
    assert len(sessions) == 2
    for session in sessions:
        assert session["ipAddress"] == "127.0.0.1"
        assert "grpc-python" in session["userAgent"]
