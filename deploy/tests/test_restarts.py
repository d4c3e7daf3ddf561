"""Persistence across a restart: the whole leaderboard of services on which two users have played.

All settings have their defaults.
"""

import types

import pytest
from players import Player, win
from services import HEALTH, LEADERBOARD

BOARD = f"{LEADERBOARD}/GetLeaderboard"


@pytest.fixture(scope="module")
def league(own_services):
    """Alice won against bob, lost to the computer and drew with it; carol has not played."""
    alice, bob, carol = (Player(own_services, login) for login in ["alice", "bob", "carol"])
    win(alice, bob, bob.join(alice.create()))
    alice.play_computer("O", min)
    alice.play_computer("X", max)
    return types.SimpleNamespace(alice=alice, bob=bob, carol=carol)


def lines(answer):
    def line(entry):
        counts = (int(entry[name]) for name in ["rank", "wins", "losses", "draws"])
        return entry["login"], *counts, entry["winRatio"]

    return [line(entry) for entry in answer["entries"]]


STANDING = [("alice", 1, 1, 1, 1, 0.5), ("bob", 2, 0, 1, 0, 0.0)]


def test_the_leaderboard_ranks_everybody_who_has_played(league):
    assert lines(league.carol.call(BOARD)) == STANDING
    assert lines(league.carol.call(BOARD, {"limit": 1})) == STANDING[:1]


def test_a_leaderboard_of_too_many_entries_is_refused(league):
    assert league.carol.refusal(BOARD, {"limit": 1001}) == ("INVALID_ARGUMENT", "authz.v1/FIELDS_INVALID", ["limit"])


def test_players_see_their_own_rank_and_who_is_around_them(league):
    entries = league.carol.call(BOARD)["entries"]
    for player, entry in zip([league.alice, league.bob], entries, strict=True):
        assert player.call(f"{LEADERBOARD}/GetPlayerRank")["entry"] == entry
        assert player.call(f"{LEADERBOARD}/ListAroundPlayer", {"limit": 2})["entries"] == entries


def test_a_restart_with_open_streams_keeps_all_data(own_services, league):
    clients = [own_services.auth, own_services.game]
    streams = [client.stream(f"{HEALTH}/Watch", {}, token=None) for client in clients]
    for stream in streams:
        assert next(stream)["status"] == "SERVING"
    assert set(own_services.stop()) == {0}, "the exit codes after SIGTERM"
    # Each service is now read through the other version of reflection.
    own_services.start(auth_reflection="v1", game_reflection="v1alpha")
    token = own_services.login("carol")["tokens"]["accessToken"]
    assert lines(own_services.game.call(BOARD, token=token)) == STANDING
