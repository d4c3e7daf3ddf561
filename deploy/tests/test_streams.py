"""Server streams: as server-sent events, over gRPC and over gRPC-Web."""

import json
import signal
import threading

import grpc
import httpx
import pytest
from conftest import until

import api


def game_of_two(gateway):
    """A running game between two players: their tokens, and the game's id."""
    x, o = gateway.player(), gateway.player()
    game = gateway.rest(x).post("/v1/games", json={"opponent": "OPPONENT_PLAYER", "mark": "MARK_X"}).json()["game"]
    joined = gateway.rest(o).post(f"/v1/games/{game['gameId']}:join", json={})
    assert joined.status_code == 200, joined.text
    return x, o, game["gameId"]


def move(gateway, token, game_id, cell, version):
    answer = gateway.rest(token).post(f"/v1/games/{game_id}:move", json={"cell": cell, "expectedVersion": version})
    assert answer.status_code == 200, answer.text
    return answer.json()["game"]


def events(answer):
    """Yields the data of server-sent events as they arrive."""
    for line in answer.iter_lines():
        if line.startswith("data:"):
            yield json.loads(line.removeprefix("data:"))
        else:
            assert line == "", line


@pytest.mark.parametrize("http2", [False, True])
def test_a_game_is_watched_by_server_sent_events(gateway, http2):
    x, o, game_id = game_of_two(gateway)
    client = gateway.rest(o, http1=not http2, http2=http2)
    with client.stream("GET", f"/v1/games/{game_id}:watch") as answer:
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream")
        assert answer.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
        watched = events(answer)
        # Each event arrives before the next move is made, so no buffer holds it back.
        version = int(next(watched)["game"]["version"])
        for turn, cell in enumerate([0, 3, 1, 4, 2]):
            move(gateway, [x, o][turn % 2], game_id, cell, version)
            seen = next(watched)["game"]
            version = int(seen["version"])
        assert (seen["state"], seen["board"]) == ("GAME_STATE_WON", "XXXOO....")
        assert list(watched) == [], "the stream ends with the game"


def test_watching_an_unknown_game_is_an_error_in_json(gateway):
    answer = gateway.rest(gateway.player()).get("/v1/games/01a1fc2d-0afd-7001-abc5-eae560e12287:watch")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/json")
    assert api.reason(answer.json()["details"]) == "GAME_NOT_FOUND"


def test_a_logout_ends_the_events_and_the_next_try_says_why(gateway):
    x, _, game_id = game_of_two(gateway)
    with gateway.rest(x).stream("GET", f"/v1/games/{game_id}:watch") as answer:
        watched = events(answer)
        next(watched)
        assert gateway.rest(x).post("/v1/auth/logout", json={}).status_code == 200
        assert list(watched) == []
    again = gateway.rest(x).get(f"/v1/games/{game_id}:watch")
    assert (again.status_code, api.reason(again.json()["details"])) == (401, "TOKEN_REVOKED")


def test_over_grpc_the_status_says_why_a_stream_ended(gateway):
    x, _, game_id = game_of_two(gateway)
    stream = gateway.grpc().stream("/game.v1.GameService/WatchGame", {"gameId": game_id}, x)
    assert next(stream)["game"]["gameId"] == game_id
    gateway.rest(x).post("/v1/auth/logout", json={})
    with pytest.raises(grpc.RpcError) as ended:
        next(stream)
    assert ended.value.code() == grpc.StatusCode.UNAUTHENTICATED
    assert api.reason(api.status_of(ended.value)["details"]) == "TOKEN_REVOKED"


def test_a_closed_stream_gives_its_place_back(gateway):
    """A user may watch twenty games."""
    token = gateway.player()
    ids = [gateway.rest(token).post("/v1/games", json={"opponent": "OPPONENT_PLAYER"}).json()["game"]["gameId"] for _ in range(20)]
    url = f"/v1/games/{ids[0]}:watch"
    streams = [gateway.rest(token).stream("GET", f"/v1/games/{game_id}:watch") for game_id in ids]
    # Keep references, because a stream without one is closed.
    watched = [events(stream.__enter__()) for stream in streams]
    assert [next(each)["game"]["gameId"] for each in watched] == ids
    refused = gateway.rest(token).get(url)
    assert (refused.status_code, api.reason(refused.json()["details"])) == (429, "TOO_MANY_GAMES_WATCHED")
    streams[0].__exit__(None, None, None)

    def is_free():
        with gateway.rest(token).stream("GET", url) as answer:
            return answer.status_code == 200

    until(is_free, "the place is free again", seconds=10)
    for stream in streams[1:]:
        stream.__exit__(None, None, None)


def test_streams_end_when_the_service_is_killed_and_calls_recover(own_gateway):
    gateway = own_gateway()
    x, o, game_id = game_of_two(gateway)
    begun, ended = threading.Event(), threading.Event()

    def watch():
        with gateway.rest(o).stream("GET", f"/v1/games/{game_id}:watch") as answer:
            watched = events(answer)
            next(watched)
            begun.set()
            try:
                list(watched)
            except httpx.RemoteProtocolError:
                pass  # the stream has no proper end, which shows that it was cut off
        ended.set()

    reader = threading.Thread(target=watch, daemon=True)
    reader.start()
    assert begun.wait(10)
    gateway.standalone.stop(signal.SIGKILL)
    assert ended.wait(10), "the reader still waits"
    refused = gateway.rest(x).get(f"/v1/games/{game_id}")
    assert (refused.status_code, api.reason(refused.json()["details"])) == (503, "UPSTREAM_UNAVAILABLE")
    assert [each["retryDelay"] for each in refused.json()["details"] if each["@type"].endswith("/google.rpc.RetryInfo")] == ["1s"]
    error = gateway.grpc().refused("/game.v1.GameService/GetGame", {"gameId": game_id}, token=x)
    assert error.code() == grpc.StatusCode.UNAVAILABLE
    gateway.start_standalone()
    until(lambda: gateway.rest(x).get(f"/v1/games/{game_id}").status_code == 200, "it is back", seconds=10)
    move(gateway, x, game_id, 4, 2)
