"""Accounts: registration, login, and reading one's own account."""

import uuid

import pytest
from conftest import PASSWORD
from services import ACCOUNT, AUTH


def test_a_registration_makes_a_player_with_tokens(services):
    answer = services.register("alice")
    uuid.UUID(answer["user"]["userId"])
    assert (answer["user"]["login"], answer["user"]["email"]) == ("alice", "alice@example.com")
    assert answer["tokens"]["tokenType"] == "Bearer"
    me = services.auth.call(f"{ACCOUNT}/GetMe", token=answer["tokens"]["accessToken"])
    assert me["user"]["userId"] == answer["user"]["userId"]
    assert (me["user"]["firstName"], me["user"]["lastName"]) == ("Alice", "Example")
    assert (me["roles"], me["isAdmin"]) == (["player"], False)


def test_a_registration_names_every_bad_field_in_one_answer(services):
    passwords = {"password": "short", "passwordConfirmation": "shorter"}
    account = {"email": "nobody", "login": "a b", "firstName": "x" * 101, **passwords}
    wrong = ["email", "first_name", "login", "password", "password_confirmation"]
    refusal = services.auth.refusal(f"{AUTH}/Register", account)
    assert refusal == ("INVALID_ARGUMENT", "authz.v1/FIELDS_INVALID", wrong)


def test_a_registration_names_a_login_and_an_address_that_are_taken_in_another_case(services):
    login = services.register()["user"]["login"]
    passwords = {"password": PASSWORD, "passwordConfirmation": PASSWORD}
    account = {"email": f"{login.upper()}@example.com", "login": login.title(), **passwords}
    refusal = services.auth.refusal(f"{AUTH}/Register", account)
    assert refusal == ("ALREADY_EXISTS", "auth.v1/USER_ALREADY_EXISTS", ["email", "login"])


@pytest.mark.parametrize("written", ["{}", "{}@example.com"], ids=["login", "address"])
def test_a_user_logs_in_by_login_and_by_address_in_any_case(services, written):
    user = services.register()["user"]
    by_any_case = services.login(written.format(user["login"].upper()))
    assert by_any_case["user"]["userId"] == user["userId"]


def test_a_wrong_password_and_an_unknown_user_are_refused_alike(services):
    login = services.register()["user"]["login"]
    for identifier, password in [(login, PASSWORD + "?"), (f"{login}-unknown", PASSWORD)]:
        refusal = services.auth.refusal(f"{AUTH}/Login", {"identifier": identifier, "password": password})
        assert refusal == ("UNAUTHENTICATED", "auth.v1/CREDENTIALS_INVALID", [])
