"""gRPC-Web without a library: the requests and responses of a browser's client."""

import base64
import struct

import httpx
import pytest
from conftest import PASSWORD
from google.protobuf import message_factory

import api

BINARY = "application/grpc-web+proto"
TEXT = "application/grpc-web-text"


def frames(data):
    """Returns the messages, and the trailers as a dictionary."""
    messages, trailers = [], {}
    while data:
        flag, length = struct.unpack(">BI", data[:5])
        frame, data = data[5 : 5 + length], data[5 + length :]
        if flag & 0x80:
            trailers = dict(line.split(":", 1) for line in frame.decode().split("\r\n") if line)
        else:
            messages.append(frame)
    return messages, {key.strip(): value.strip() for key, value in trailers.items()}


def call(gateway, path, fields, token=None, content_type=BINARY):
    """Returns the messages as JSON, the trailers, and the HTTP response."""
    method = api.RPCS[path]
    request = api.message(method.input_type, fields).SerializeToString()
    body = struct.pack(">BI", 0, len(request)) + request
    if content_type == TEXT:
        body = base64.b64encode(body)
    headers = {"content-type": content_type, "accept": content_type, "x-grpc-web": "1", "x-user-agent": "a browser"}
    answer = gateway.rest(token).post(path, content=body, headers=headers)
    data = answer.content
    if content_type == TEXT:
        # Each chunk has its own padding.
        data = b"".join(base64.b64decode(part + "=" * (-len(part) % 4)) for part in data.decode().replace("=", " ").split())
    messages, trailers = frames(data)
    parsed = [api.to_json(message_factory.GetMessageClass(method.output_type).FromString(each)) for each in messages]
    return parsed, {**{key: value for key, value in answer.headers.items() if key.startswith("grpc-")}, **trailers}, answer


@pytest.mark.parametrize("content_type", [BINARY, TEXT])
def test_a_call_is_answered_with_a_message_and_trailers(gateway, content_type):
    login = gateway.register()["user"]["login"]
    [logged_in], trailers, answer = call(gateway, "/auth.v1.AuthService/Login", {"identifier": login, "password": PASSWORD}, content_type=content_type)
    assert (answer.status_code, trailers["grpc-status"]) == (200, "0")
    token = logged_in["tokens"]["accessToken"]
    [me], trailers, _ = call(gateway, "/auth.v1.AccountService/GetMe", {}, token, content_type)
    assert (me["user"]["login"], trailers["grpc-status"]) == (login, "0")
    [created], _, _ = call(gateway, "/game.v1.GameService/CreateGame", {"opponent": "OPPONENT_COMPUTER"}, token, content_type)
    assert created["game"]["board"].count("X") <= 1
    [sessions], _, _ = call(gateway, "/auth.v1.AccountService/ListMySessions", {}, token, content_type)
    assert "a browser" in {each["userAgent"] for each in sessions["sessions"]}, "a page cannot set user-agent"


def test_an_error_has_the_details_that_grpc_has(gateway):
    messages, trailers, answer = call(gateway, "/auth.v1.AuthService/Register", {"login": "a"})
    assert (messages, answer.status_code, trailers["grpc-status"]) == ([], 200, "3")
    details = trailers["grpc-status-details-bin"]
    status = message_factory.GetMessageClass(api.POOL.FindMessageTypeByName("google.rpc.Status"))
    status = api.to_json(status.FromString(base64.b64decode(details + "=" * (-len(details) % 4))))
    assert api.reason(status["details"]) == "FIELDS_INVALID"


def test_a_stream_comes_message_by_message(gateway):
    token = gateway.player()
    [created], _, _ = call(gateway, "/game.v1.GameService/CreateGame", {"opponent": "OPPONENT_PLAYER"}, token)
    game_id = created["game"]["gameId"]
    method = api.RPCS["/game.v1.GameService/WatchGame"]
    request = api.message(method.input_type, {"gameId": game_id}).SerializeToString()
    body = struct.pack(">BI", 0, len(request)) + request
    with gateway.rest(token).stream("POST", "/game.v1.GameService/WatchGame", content=body, headers={"content-type": BINARY}) as answer:
        received = b""
        chunks = answer.iter_raw()
        while len(frames(received)[0]) < 1 or len(received) < 10:
            received += next(chunks)
        gateway.rest(token).post(f"/v1/games/{game_id}:cancel", json={})
        for chunk in chunks:
            received += chunk
    messages, trailers = frames(received)
    states = [api.to_json(message_factory.GetMessageClass(method.output_type).FromString(each))["game"]["state"] for each in messages]
    assert (states, trailers["grpc-status"]) == (["GAME_STATE_WAITING_FOR_PLAYER", "GAME_STATE_CANCELLED"], "0")


def test_refusals_by_the_gateway_are_grpc_statuses_too(gateway):
    for path, status in [("/auth.v1.AuthService/IssueServiceToken", "12"), ("/nothing/AtAll", "12")]:
        headers = {"content-type": BINARY}
        answer = httpx.post(f"{gateway.origin}{path}", content=b"\0\0\0\0\0", headers=headers)
        assert (answer.status_code, answer.headers["grpc-status"], answer.headers["grpc-message"]) == (200, status, "no such method")
