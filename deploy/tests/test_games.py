"""Whole games: against a person, against the computer, and watched."""

import uuid

import pytest
from players import Player, win
from services import GAME


@pytest.fixture
def alice(services):
    return Player(services)


@pytest.fixture
def bob(services):
    return Player(services)


@pytest.fixture
def joined(alice, bob):
    """Game of alice, who has X and the first move, against bob."""
    return bob.join(alice.create())


def refused_move(player, game, cell, version=None):
    """Tries a move, checks that the refusal leaves the game unchanged, and returns the refusal."""
    asked = {"gameId": game["gameId"]}
    before = player.call(f"{GAME}/GetGame", asked)
    move = {**asked, "cell": cell, "expectedVersion": game["version"] if version is None else version}
    refusal = player.refusal(f"{GAME}/MakeMove", move)
    assert player.call(f"{GAME}/GetGame", asked) == before
    return refusal


def test_a_game_without_an_opponent_is_refused(alice):
    refusal = alice.refusal(f"{GAME}/CreateGame")
    assert refusal == ("INVALID_ARGUMENT", "authz.v1/FIELDS_INVALID", ["opponent"])


def test_a_game_that_waits_is_open_to_others_until_one_joins(alice, bob):
    def open_games_of_alice():
        open_games = bob.call(f"{GAME}/ListOpenGames")["games"]
        return [game for game in open_games if game["xUserId"] == alice.user_id]

    created = alice.create()
    assert created["state"] == "GAME_STATE_WAITING_FOR_PLAYER"
    assert (created["board"], created["xUserId"]) == (".........", alice.user_id)
    assert open_games_of_alice() == [created]
    joined = bob.join(created)
    assert (joined["state"], joined["turnUserId"]) == ("GAME_STATE_TURN", alice.user_id)
    assert (joined["oUserId"], joined["oLogin"]) == (bob.user_id, bob.login)
    assert open_games_of_alice() == []


def test_a_player_cannot_join_a_game_of_their_own(alice):
    refusal = alice.refusal(f"{GAME}/JoinGame", {"gameId": alice.create()["gameId"]})
    assert refusal == ("FAILED_PRECONDITION", "game.v1/GAME_IS_OWN", [])


def test_a_game_of_others_looks_like_one_that_does_not_exist(services, joined):
    stranger = Player(services)
    for game_id in [joined["gameId"], str(uuid.uuid4())]:
        refusal = stranger.refusal(f"{GAME}/GetGame", {"gameId": game_id})
        assert refusal == ("NOT_FOUND", "game.v1/GAME_NOT_FOUND", [])


def test_a_move_before_another_player_has_joined_is_refused(alice):
    refusal = refused_move(alice, alice.create(), 0)
    assert refusal == ("FAILED_PRECONDITION", "game.v1/GAME_NOT_STARTED", [])


def test_a_move_off_the_board_and_without_a_version_names_both_fields(alice, joined):
    refusal = refused_move(alice, joined, 9, version=0)
    assert refusal == ("INVALID_ARGUMENT", "authz.v1/FIELDS_INVALID", ["cell", "expected_version"])


def test_a_move_out_of_turn_is_refused(bob, joined):
    refusal = refused_move(bob, joined, 3)
    assert refusal == ("FAILED_PRECONDITION", "game.v1/NOT_YOUR_TURN", [])


def test_a_move_to_a_taken_cell_is_refused(alice, bob, joined):
    refusal = refused_move(bob, alice.move(joined, 0), 0)
    assert refusal == ("FAILED_PRECONDITION", "game.v1/CELL_TAKEN", [])


def test_a_move_on_an_older_board_is_refused(alice, bob, joined):
    alice.move(joined, 0)
    refusal = refused_move(bob, joined, 3)
    assert refusal == ("ABORTED", "game.v1/VERSION_MISMATCH", [])


def test_a_row_wins_and_no_move_follows(alice, bob, joined):
    won = win(alice, bob, joined)
    assert (won["state"], won["winnerMark"]) == ("GAME_STATE_WON", "MARK_X")
    assert (won["winnerUserId"], won["turnUserId"]) == (alice.user_id, "")
    assert (won["board"], [each["cell"] for each in won["moves"]]) == ("XXXOO....", [0, 3, 1, 4, 2])
    refusal = refused_move(bob, won, 8)
    assert refusal == ("FAILED_PRECONDITION", "game.v1/GAME_FINISHED", [])
    assert alice.call(f"{GAME}/GetGame", {"gameId": won["gameId"]})["game"] == won


def test_the_computer_wins_against_the_worst_player(alice):
    lost = alice.play_computer("O", min)
    assert (lost["state"], lost["winnerMark"]) == ("GAME_STATE_WON", "MARK_X")
    assert lost["winnerUserId"] == "", "the computer is no user"
    assert alice.call(f"{GAME}/GetGame", {"gameId": lost["gameId"]})["game"] == lost


def test_the_best_player_and_the_computer_draw(alice):
    drawn = alice.play_computer("X", max)
    assert drawn["state"] == "GAME_STATE_DRAW"
    assert alice.call(f"{GAME}/GetGame", {"gameId": drawn["gameId"]})["game"] == drawn


def test_a_game_is_watched_from_its_first_state_to_its_last(services, alice, bob):
    created = alice.create()
    states = services.game.stream(f"{GAME}/WatchGame", {"gameId": created["gameId"]}, bob.token)
    assert next(states)["game"] == created
    won = win(alice, bob, bob.join(created))
    # The stream ends by itself with OK.
    seen = [created, *(state["game"] for state in states)]
    assert seen[-1] == won
    versions = [int(game["version"]) for game in seen]
    assert versions == sorted(set(versions))
