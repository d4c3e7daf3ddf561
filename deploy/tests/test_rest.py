"""Every REST route of the OpenAPI document compared with its RPC: same responses, same errors, and valid against the schemas."""

import json
import re
import struct
import uuid

import grpc
import jsonschema
import pytest
from api import retry_says_the_same_twice
from conftest import PASSWORD

import api

# HTTP status by gRPC code, as in the OpenAPI document.
HTTP_STATUS = {3: 400, 9: 400, 11: 400, 16: 401, 7: 403, 5: 404, 6: 409, 10: 409, 8: 429, 13: 500, 12: 501, 14: 503, 4: 504}


class Operation:
    def __init__(self, document, method, path, operation):
        self.document, self.method, self.path, self.operation = document, method, path, operation
        self.id = operation["operationId"]
        self.rpc = "/" + re.findall(r"gRPC: `([^`]+)`$", operation["description"])[0]
        self.is_public = {} in operation["security"]
        self.is_stream = "text/event-stream" in operation["responses"]["200"]["content"]
        names = [each.get("name") for each in operation.get("parameters", []) if each.get("in") == "path"]
        assert names == re.findall(r"\{([^}]+)\}", path)

    def url(self, fields):
        return re.sub(r"\{([^}]+)\}", lambda found: str(fields[found[1]]), self.path)

    def validate(self, answer):
        """Checks a response against its schema, which must have all of its fields."""
        schema = self.operation["responses"]["200"]["content"]["application/json"]["schema"]
        jsonschema.validate(answer, {**schema, "components": self.document["components"]})
        api.message(api.RPCS[self.rpc].output_type, answer)


def operations(document):
    return {
        operation["operationId"]: Operation(document, method, path, operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }


@pytest.fixture(scope="module")
def every(openapi):
    return operations(openapi)


def service(gateway, rpc):
    return gateway.grpc("auth" if rpc.startswith("/auth.") else "game")


def json_name(name):
    return re.sub("_([a-z0-9])", lambda found: found[1].upper(), name)


def as_rest_says_it(status):
    """Returns the status of a gRPC call with field names as in JSON."""
    if any(each["@type"].endswith("/google.rpc.BadRequest") for each in status["details"]):
        return json.loads(re.sub("[a-z][a-z0-9]*(_[a-z0-9]+)+", lambda found: json_name(found[0]), json.dumps(status)))
    return status


def without_request_id(status):
    details = [each for each in status["details"] if not each["@type"].endswith("/google.rpc.RequestInfo")]
    return {**status, "details": sorted(details, key=lambda each: each["@type"])}


def test_without_a_token_every_route_refuses_as_its_rpc_does(gateway, every):
    nobody = str(uuid.uuid4())
    for operation in every.values():
        if operation.id in ("KeyService_GetJwks", "AccountService_GetClientAddress", "AuthService_RegisterGuest"):
            continue
        names = re.findall(r"\{([^}]+)\}", operation.path)
        url = operation.url(dict.fromkeys(names, nobody))
        body = {"json": {}} if "requestBody" in operation.operation else {}
        answer = gateway.rest().request(operation.method, url, **body)
        if operation.is_stream:
            with pytest.raises(grpc.RpcError) as refused:
                next(service(gateway, operation.rpc).stream(operation.rpc, {}, None))
            error = refused.value
        else:
            error = service(gateway, operation.rpc).refused(operation.rpc, {})
        status = api.status_of(error)
        assert answer.status_code == HTTP_STATUS[error.code().value[0]], (operation.id, answer.text)
        assert without_request_id(answer.json()) == without_request_id(as_rest_says_it(status)), operation.id
        assert answer.headers["x-request-id"]
        if not operation.is_public:
            assert api.reason(status["details"]) == "TOKEN_MISSING", operation.id
            assert answer.headers["www-authenticate"] == 'Bearer realm="api"', operation.id


def code_in(mail):
    """Returns the short code of a mail."""
    [code] = re.findall(r"^ +([0-9A-Z]{4}-[0-9A-Z]{4})$", mail, re.MULTILINE)
    return code


def test_every_route_does_what_its_rpc_does(gateway, every):
    """Creates, reads, changes and deletes objects of every kind by REST, and compares every read with gRPC."""
    called = set()

    def call(operation_id, token, path=None, query=None, body=None):
        operation = every[operation_id]
        called.add(operation_id)
        answer = gateway.rest(token).request(operation.method, operation.url(path or {}), params=query, json=body)
        assert answer.status_code == 200, (operation_id, answer.status_code, answer.text)
        operation.validate(answer.json())
        if operation.method == "get":
            twin = service(gateway, operation.rpc).call(operation.rpc, {**(query or {}), **(path or {})}, token)
            assert answer.json() == twin, operation_id
        return answer.json()

    root = gateway.administrator()
    name = f"rest_{uuid.uuid4().hex[:8]}"

    # A user registers and manages the account.
    login = f"r{uuid.uuid4().hex[:10]}"
    account = {"login": login, "email": f"{login}@example.com", "password": PASSWORD, "passwordConfirmation": PASSWORD}
    me = call("AuthService_Register", None, body=account)
    user_id, token = me["user"]["userId"], me["tokens"]["accessToken"]
    again = call("AuthService_Login", None, body={"identifier": login, "password": PASSWORD})
    call("AuthService_RefreshAccessToken", None, body={"refreshToken": again["tokens"]["refreshToken"]})
    rotated = call("AuthService_RotateTokens", None, body={"refreshToken": again["tokens"]["refreshToken"], "requestId": str(uuid.uuid4())})
    call("AuthService_RevokeToken", None, body={"token": rotated["tokens"]["refreshToken"], "tokenTypeHint": "refresh_token"})
    call("AccountService_GetMe", token)
    call("AccountService_GetMe", token)
    changed = call("AccountService_UpdateMe", token, query={"updateMask": "firstName,lastName"}, body={"firstName": "Ann", "middleName": "no"})
    assert (changed["user"]["firstName"], changed["user"]["middleName"]) == ("Ann", "")
    changed = call("AccountService_UpdateMe_update", token, body={"user": {"lastName": "Lee"}, "currentPassword": PASSWORD})
    assert changed["user"]["lastName"] == "Lee"
    first, second = f"{login}@example.com", f"2{login}@example.com"
    call("AccountService_RequestEmailVerification", token, body={})
    verified = call("AccountService_VerifyEmail", token, body={"code": code_in(gateway.mail_to(first, count=2, containing="#verify-email?"))})
    assert verified["user"]["emailVerifyTime"]
    call("AccountService_ChangeEmail", token, body={"email": second, "currentPassword": PASSWORD})
    changed = call("AccountService_ConfirmEmailChange", token, body={"code": code_in(gateway.mail_to(second, containing="#confirm-email?"))})
    assert changed["user"]["email"] == second
    third = call("AuthService_Login", None, body={"identifier": login, "password": PASSWORD})
    sessions = call("AccountService_ListMySessions", token, query={"pageSize": 1})
    assert len(sessions["sessions"]) == 1 and sessions["nextPageToken"]
    call("AccountService_ListMySessions", token, query={"pageSize": 1, "pageToken": sessions["nextPageToken"]})
    mine = call("AccountService_ListMySessions", third["tokens"]["accessToken"])["sessions"]
    [current] = [each for each in mine if each["isCurrent"]]
    call("AccountService_RevokeMySession", token, path={"sessionId": current["sessionId"]})
    call("AccountService_ChangePassword", token, body={"currentPassword": PASSWORD, "newPassword": "battery staple", "newPasswordConfirmation": "battery staple"})
    link = re.search(r"#revert-email\?user_id=([^&\s]+)&code=(\S+)", gateway.mail_to(first, containing="#revert-email?"))
    call("AccountService_RevertEmailChange", None, body={"userId": link[1], "code": link[2]})
    gateway.mail_to(first, containing="#reset-password?")
    call("AuthService_RequestPasswordReset", None, body={"identifier": login})
    code = code_in(gateway.mail_to(first, count=2, containing="#reset-password?"))
    new = {"newPassword": "purple elephants", "newPasswordConfirmation": "purple elephants"}
    reset = call("AuthService_ResetPassword", None, body={"identifier": login, "code": code, **new})
    assert reset["user"]["emailVerifyTime"]
    token = call("AuthService_Login", None, body={"identifier": login, "password": "purple elephants"})["tokens"]["accessToken"]
    # Each export is recorded, so a second one over gRPC would contain one more event.
    exported = gateway.rest(token).get("/v1/me:export", params={"pageSize": 40})
    called.add("AccountService_ExportMe")
    every["AccountService_ExportMe"].validate(exported.json())
    assert exported.json()["user"]["login"] == login and exported.json()["sessions"] and exported.json()["auditEvents"]

    # Two players play.
    other = gateway.register()
    other_id, other_token = other["user"]["userId"], other["tokens"]["accessToken"]
    game = call("GameService_CreateGame", token, body={"opponent": "OPPONENT_PLAYER", "mark": "MARK_X"})["game"]
    game_id = game["gameId"]
    assert game_id in [each["gameId"] for each in call("GameService_ListOpenGames", other_token)["games"]]
    game = call("GameService_JoinGame", other_token, path={"gameId": game_id}, body={})["game"]
    for turn, cell in enumerate([0, 3, 1, 4, 2]):
        mover = [token, other_token][turn % 2]
        game = call("GameService_MakeMove", mover, path={"gameId": game_id}, body={"cell": cell, "expectedVersion": game["version"]})["game"]
    assert (game["state"], game["winnerUserId"]) == ("GAME_STATE_WON", user_id)
    call("GameService_GetGame", other_token, path={"gameId": game_id})
    won = call("HistoryService_ListFinishedGames", token, query={"result": "GAME_RESULT_WON", "startTime": "2026-01-01T00:00:00Z", "opponentUserId": other_id})
    assert [each["gameId"] for each in won["games"]] == [game_id]
    lost = call("HistoryService_ListFinishedGames", token, query={"result": "GAME_RESULT_LOST"})
    assert lost == {"games": [], "nextPageToken": ""}
    assert call("HistoryService_GetHeadToHead", other_token, path={"opponentUserId": user_id})["losses"] == "1"
    assert call("LeaderboardService_GetLeaderboard", token, query={"limit": 3})["entries"]
    call("LeaderboardService_GetPlayerRank", token)
    call("LeaderboardService_GetPlayerRank", token, query={"userId": other_id})
    call("LeaderboardService_ListAroundPlayer", token, query={"limit": 3})
    game_id = call("GameService_CreateGame", token, body={"opponent": "OPPONENT_COMPUTER", "mark": "MARK_X", "requestId": str(uuid.uuid4())})["game"]["gameId"]
    call("GameService_ListMyGames", token)
    call("GameService_ResignGame", token, path={"gameId": game_id}, body={})
    game_id = call("GameService_CreateGame", token, body={"opponent": "OPPONENT_PLAYER"})["game"]["gameId"]
    call("GameService_CancelGame", token, path={"gameId": game_id}, body={})

    # An administrator creates roles.
    call("RbacService_CreateResource", root, body={"codeName": name, "name": f"Resource {name}"})
    call("RbacService_GetResource", root, path={"codeName": name})
    call("RbacService_ListResources", root)
    updated = call("RbacService_UpdateResource", root, path={"codeName": name}, query={"updateMask": "description"}, body={"description": "new"})
    assert updated["resource"]["description"] == "new"
    call("RbacService_CreateAction", root, body={"codeName": name, "name": f"Action {name}"})
    call("RbacService_GetAction", root, path={"codeName": name})
    call("RbacService_ListActions", root)
    call("RbacService_UpdateAction", root, path={"codeName": name}, body={"description": "new"})
    permission = f"{name}:{name}"
    call("RbacService_CreatePermission", root, body={"resource": name, "action": name})
    call("RbacService_GetPermission", root, path={"name": permission})
    call("RbacService_ListPermissions", root, query={"resource": name})
    call("RbacService_UpdatePermission", root, path={"name": permission}, body={"description": "new"})
    call("RbacService_CreateRole", root, body={"codeName": name, "name": f"Role {name}"})
    call("RbacService_GetRole", root, path={"codeName": name})
    call("RbacService_ListRoles", root)
    call("RbacService_UpdateRole", root, path={"codeName": name}, body={"description": "new"})
    call("RbacService_SetRolePermissions", root, path={"role": name}, body={"permissions": [permission]})
    call("RbacService_AssignRole", root, path={"userId": other_id}, body={"role": name})
    call("RbacService_GrantPermission", root, path={"userId": other_id}, body={"permission": permission})
    held = call("RbacService_ListUserPermissions", root, path={"userId": other_id})
    assert permission in str(held)
    call("RbacService_RevokePermission", root, path={"userId": other_id}, body={"permission": permission})
    call("RbacService_UnassignRole", root, path={"userId": other_id}, body={"role": name})
    call("RbacService_DeleteRole", root, path={"codeName": name})
    call("RbacService_DeletePermission", root, path={"name": permission})
    call("RbacService_DeleteAction", root, path={"codeName": name})
    call("RbacService_DeleteResource", root, path={"codeName": name}, query={"force": True})

    # The administrator manages users, services and keys.
    made = call("UserService_CreateUser", root, body={"login": name, "email": f"{name}@example.com", "password": PASSWORD, "roles": ["player"]})
    made_id = made["user"]["userId"]
    call("UserService_GetUser", root, path={"userId": made_id})
    call("UserService_ListUsers", root, query={"query": name})
    call("UserService_UpdateUser", root, path={"userId": made_id}, query={"updateMask": "lastName"}, body={"lastName": "New"})
    call("UserService_SetPassword", root, path={"userId": made_id}, body={"password": "another password"})
    call("UserService_SendPasswordReset", root, path={"userId": made_id}, body={"invalidatePassword": True})
    guest = f"{name}_invited"
    guest_id = call("UserService_InviteUser", root, body={"login": guest, "email": f"{guest}@example.com", "roles": ["player"]})["user"]["userId"]
    [code] = re.findall(r"^ +([0-9A-Z]{4}-[0-9A-Z]{4})$", gateway.mail_to(f"{guest}@example.com"), re.MULTILINE)
    accepted = call("AuthService_ResetPassword", None, body={"identifier": guest, "code": code, **new})
    assert accepted["user"]["userId"] == guest_id
    call("UserService_UnlockUser", root, path={"userId": made_id}, body={})
    sessions = call("UserService_ListUserSessions", root, path={"userId": other_id}, query={"showEnded": True})["sessions"]
    call("UserService_RevokeUserSession", root, path={"userId": other_id, "sessionId": sessions[0]["sessionId"]})
    call("UserService_RevokeUserTokens", root, path={"userId": other_id}, body={})
    call("UserService_DeactivateUser", root, path={"userId": made_id}, body={})
    call("UserService_ReactivateUser", root, path={"userId": made_id}, body={})
    call("UserService_DeleteUser", root, path={"userId": made_id})
    client = name.replace("_", "-")
    call("ServiceAccountService_CreateServiceAccount", root, body={"clientId": client, "roles": ["service"]})
    call("ServiceAccountService_GetServiceAccount", root, path={"clientId": client})
    call("ServiceAccountService_ListServiceAccounts", root)
    call("ServiceAccountService_RotateServiceAccountSecret", root, path={"clientId": client}, body={"overlapSeconds": 10})
    call("ServiceAccountService_DeleteServiceAccount", root, path={"clientId": client})
    call("AuditService_ListAuditEvents", root, query={"subjectUserId": user_id, "action": "session.login", "pageSize": 2})
    call("KeyService_ListSigningKeys", root)
    call("KeyService_RotateSigningKey", root, body={})
    [kid] = [each["kid"] for each in call("KeyService_ListSigningKeys", root)["signingKeys"] if each["state"] == "STATE_NEXT"]
    call("KeyService_RetireSigningKey", root, path={"kid": kid}, body={})

    # The sessions end.
    call("AuthService_Logout", token, body={})
    token = call("AuthService_Login", None, body={"identifier": login, "password": "purple elephants"})["tokens"]["accessToken"]
    call("AuthService_RevokeAllTokens", token, body={})
    token = call("AuthService_Login", None, body={"identifier": login, "password": "purple elephants"})["tokens"]["accessToken"]
    # A second factor, which each login needs from then on.
    made = call("AccountService_CreateTotpFactor", token, body={"displayName": "phone"})
    factor = {"factorId": made["factor"]["factorId"]}
    codes = call("AccountService_ConfirmTotpFactor", token, path=factor, body={"totpCode": api.totp(made["secret"])})["recoveryCodes"]
    call("AccountService_ListSecondFactors", token)
    needed = call("AuthService_Login", None, body={"identifier": login, "password": "purple elephants"})["challenge"]
    completion = {"challengeToken": needed["challengeToken"], "recoveryCode": codes[0]}
    strong = call("AuthService_CompleteLogin", None, body=completion)["tokens"]["accessToken"]
    call("AccountService_RenewRecoveryCodes", strong, body={})
    call("UserService_ResetSecondFactors", root, path={"userId": other_id}, body={})
    call("AccountService_DeleteSecondFactor", strong, path=factor)
    token = call("AuthService_Login", None, body={"identifier": login, "password": "purple elephants"})["tokens"]["accessToken"]
    fresh = call("AccountService_Reauthenticate", token, body={"password": "purple elephants"})["accessToken"]
    call("AccountService_DeleteMe", fresh, body={"currentPassword": "purple elephants"})

    # A guest comes back, and becomes a user.
    guest = call("AuthService_RegisterGuest", None, body={})
    again = call("AuthService_LoginGuest", None, body={"guestCredential": guest["guestCredential"], "deviceToken": guest["deviceToken"]})
    assert again["user"]["userId"] == guest["user"]["userId"] and again["user"]["isGuest"]
    login = f"g{uuid.uuid4().hex[:10]}"
    account = {"login": login, "email": f"{login}@example.com", "password": PASSWORD, "passwordConfirmation": PASSWORD}
    upgraded = call("AccountService_UpgradeAccount", again["tokens"]["accessToken"], body=account)
    assert upgraded["user"]["userId"] == guest["user"]["userId"] and not upgraded["user"]["isGuest"]

    # Other tests call these: the stream, and two whose responses depend on the caller's address or the server.
    # The enrolment at a login needs a setting.
    elsewhere = {"GameService_WatchGame", "AccountService_GetClientAddress", "KeyService_GetJwks", "AuthService_BeginEnrolment"}
    assert set(every) - called == elsewhere


def test_examples_follow_their_schemas(openapi):
    """Validates the document's examples of requests, responses and errors."""
    components = {"components": openapi["components"]}
    contents = [openapi["components"]["responses"]["error"]["content"]]
    for item in openapi["paths"].values():
        for operation in item.values():
            contents += [operation[part]["content"] for part in ("requestBody",) if part in operation]
            contents.append(operation["responses"]["200"]["content"])
    examples = [content["application/json"] for content in contents if "application/json" in content]
    assert len(examples) > 100
    for each in examples:
        assert '"string"' not in json.dumps(each["example"])
        jsonschema.validate(each["example"], {**each["schema"], **components})


def test_the_first_examples_work_as_they_are(own_gateway, openapi):
    rest = own_gateway().rest()
    for path, status in [("/v1/auth/register", 200), ("/v1/auth/login", 200), ("/v1/auth/register", 409)]:
        example = openapi["paths"][path]["post"]["requestBody"]["content"]["application/json"]["example"]
        answer = rest.post(path, json=example)
        assert answer.status_code == status, answer.text


def test_the_key_set_is_that_of_the_rpc(gateway):
    answer = gateway.rest().get("/.well-known/jwks.json")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/jwk-set+json")
    assert "max-age" in answer.headers["cache-control"]
    keys = gateway.grpc().call("/auth.v1.KeyService/GetJwks")["keys"]
    assert [each["kid"] for each in answer.json()["keys"]] == [each["kid"] for each in keys]


def test_bad_fields_are_all_named(gateway):
    account = {"login": "a", "email": "x", "password": "c", "password_confirmation": "d"}
    answer = gateway.rest().post("/v1/auth/register", json=account)
    assert answer.status_code == 400
    [bad] = [each for each in answer.json()["details"] if each["@type"].endswith("BadRequest")]
    assert {each["field"] for each in bad["fieldViolations"]} == {"login", "email", "password", "passwordConfirmation"}
    assert "passwordConfirmation must be the same as password" in answer.json()["message"]


def test_grpc_web_names_fields_as_the_protos_do(gateway):
    """gRPC-Web clients are generated from the protos, so fields keep their names."""
    body = api.message(api.RPCS["/auth.v1.AuthService/Register"].input_type, {"login": "a"}).SerializeToString()
    headers = {"content-type": "application/grpc-web+proto", "x-envoy-original-path": "/v1/auth/register"}
    answer = gateway.rest().post("/auth.v1.AuthService/Register", content=struct.pack(">BI", 0, len(body)) + body, headers=headers)
    assert "password_confirmation" in answer.headers["grpc-message"]


def test_rest_errors_mention_headers_instead_of_metadata(gateway):
    for headers in [{}, {"authorization": "Bearer x"}, {"grpc-timeout": "1x"}, {"x-token-transport": "header"}]:
        for method, path in [("GET", "/v1/me"), ("POST", "/v1/auth/rotate")]:
            answer = gateway.rest().request(method, path, headers=headers, json={})
            assert answer.status_code in (400, 401)
            assert "metadata" not in answer.json()["message"], answer.text


def test_a_401_says_how_to_authenticate(gateway):
    def challenge(answer):
        assert answer.status_code == 401, answer.text
        return answer.headers["www-authenticate"]

    assert challenge(gateway.rest().get("/v1/me")) == 'Bearer realm="api"'
    refusal = 'error="invalid_token", error_description="the access token is not one that this service accepts"'
    assert challenge(gateway.rest("x.y.z").get("/v1/leaderboard")) == f'Bearer realm="api", {refusal}'
    # The challenge does not mention the access token unless one was refused.
    credentials = {"identifier": "nobody", "password": "correct horse"}
    assert challenge(gateway.rest().post("/v1/auth/login", json=credentials)) == 'Bearer realm="api"'
    assert challenge(gateway.rest().post("/v1/auth/rotate", json={"refreshToken": "v1.x"})) == 'Bearer realm="api"'
    page = {"origin": "http://127.0.0.1:8081"}
    assert "www-authenticate" in gateway.rest().get("/v1/me", headers=page).headers["access-control-expose-headers"]


def test_a_401_for_an_old_login_says_how_recent_it_must_be(gateway):
    registered = gateway.register()
    rest = gateway.rest(gateway.old_login(registered))
    refused = rest.post("/v1/me:delete", json={"currentPassword": PASSWORD})
    assert refused.status_code == 401, refused.text
    [info] = [each for each in refused.json()["details"] if each["@type"].endswith("ErrorInfo")]
    assert (info["reason"], info["metadata"]) == ("STEP_UP_REQUIRED", {"max_age": "900"})
    challenge = r'Bearer realm="api", error="insufficient_user_authentication", error_description="[^"]+", max_age="900"'
    assert re.fullmatch(challenge, refused.headers["www-authenticate"])
    proved = rest.post("/v1/me:reauthenticate", json={"password": PASSWORD})
    assert proved.status_code == 200, proved.text
    fresh = gateway.rest(proved.json()["accessToken"])
    assert fresh.post("/v1/me:delete", json={"currentPassword": PASSWORD}).status_code == 200


def test_retry_after_comes_with_retry_info(own_gateway):
    gateway = own_gateway()
    attempt = {"identifier": "nobody", "password": "correct horse"}
    answers = (gateway.rest().post("/v1/auth/login", json=attempt) for _ in range(30))
    limited = next(answer for answer in answers if answer.status_code == 429)
    assert api.reason(limited.json()["details"]) == "TOO_MANY_ATTEMPTS"
    assert retry_says_the_same_twice(limited) > 0
    # The gateway answers if the service is down.
    gateway.standalone.stop()
    gone = gateway.rest().get("/v1/client-address")
    assert gone.status_code == 503
    assert retry_says_the_same_twice(gone) == 1
