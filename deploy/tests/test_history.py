"""The history of a player: its games, their order, and its filters."""

import types

import pytest
from players import Player, win
from services import HISTORY

FINISHED = f"{HISTORY}/ListFinishedGames"


@pytest.fixture(scope="module")
def past(services):
    """Alice won twice against bob, in between lost to the computer and drew with it; carol has not played."""
    alice, bob, carol = Player(services), Player(services), Player(services)
    won = win(alice, bob, bob.join(alice.create()))
    lost, drawn = alice.play_computer("O", min), alice.play_computer("X", max)
    won_again = win(alice, bob, bob.join(alice.create()))
    games = {"won": won, "lost": lost, "drawn": drawn, "won_again": won_again}
    return types.SimpleNamespace(alice=alice, bob=bob, carol=carol, **games)


def test_finished_games_come_newest_first_in_pages(past):
    found, token = [], ""
    while True:
        page = past.alice.call(FINISHED, {"pageSize": 1, "pageToken": token})
        assert len(page["games"]) <= 1
        found += page["games"]
        if not (token := page["nextPageToken"]):
            break
    assert found == [past.won_again, past.drawn, past.lost, past.won]


def test_players_see_the_games_that_they_played_and_no_others(past):
    assert past.bob.call(FINISHED)["games"] == [past.won_again, past.won]
    assert past.carol.call(FINISHED)["games"] == []


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"pageToken": "forged"}, ["page_token"]),
        ({"pageSize": -1}, ["page_size"]),
        ({"opponentUserId": "bob", "endReason": 99}, ["end_reason", "opponent_user_id"]),
    ],
    ids=["page token", "page size", "filters"],
)
def test_a_bad_page_and_bad_filters_are_named(past, fields, wrong):
    assert past.alice.refusal(FINISHED, fields) == ("INVALID_ARGUMENT", "authz.v1/FIELDS_INVALID", wrong)


def test_filters_find_the_games_against_one_player_with_one_result(past):
    asked = {"opponentUserId": past.bob.user_id, "result": "GAME_RESULT_WON"}
    assert past.alice.call(FINISHED, asked)["games"] == [past.won_again, past.won]
    assert past.alice.call(FINISHED, {"endReason": "END_REASON_TIMEOUT"})["games"] == []


def test_the_history_of_another_player_does_not_exist(past):
    refusal = past.alice.refusal(FINISHED, {"userId": past.bob.user_id})
    assert refusal == ("NOT_FOUND", "game.v1/USER_NOT_FOUND", [])


def test_two_players_see_the_same_games_between_them_from_both_sides(past):
    def score(player, other):
        answer = player.call(f"{HISTORY}/GetHeadToHead", {"opponentUserId": other.user_id})
        return [int(answer[name]) for name in ["wins", "losses", "draws"]]

    assert score(past.alice, past.bob) == [2, 0, 0]
    assert score(past.bob, past.alice) == [0, 2, 0]
