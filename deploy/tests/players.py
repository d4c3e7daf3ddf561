"""Players of game-service, who check the effect of each move and can play perfectly."""

import functools

from services import GAME

LINES = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6))
AGAINST_A_PERSON = {"opponent": "OPPONENT_PLAYER", "mark": "MARK_X"}


@functools.cache
def value(board, mark):
    """Computes what the side to move gets if both play perfectly from here: 1, 0 or -1."""
    other = "O" if mark == "X" else "X"
    if any(all(board[cell] == other for cell in line) for line in LINES):
        return -1
    return max((-value(put(board, cell, mark), other) for cell in free_cells(board)), default=0)


def put(board, cell, mark):
    return board[:cell] + mark + board[cell + 1 :]


def free_cells(board):
    return [cell for cell in range(9) if board[cell] == "."]


class Player:
    """New user who calls game-service."""

    def __init__(self, services, login=None):
        registered = services.register(login)
        self.server = services.game
        self.user_id, self.login = registered["user"]["userId"], registered["user"]["login"]
        self.token = registered["tokens"]["accessToken"]

    def call(self, path, fields=None):
        return self.server.call(path, fields, self.token)

    def refusal(self, path, fields=None):
        return self.server.refusal(path, fields, self.token)

    def create(self):
        """Creates a game that waits for another player."""
        return self.call(f"{GAME}/CreateGame", AGAINST_A_PERSON)["game"]

    def join(self, game):
        return self.call(f"{GAME}/JoinGame", {"gameId": game["gameId"]})["game"]

    def move(self, game, cell):
        """Makes a move, and checks that repeating it changes nothing."""
        move = {"gameId": game["gameId"], "cell": cell, "expectedVersion": game["version"]}
        after = self.call(f"{GAME}/MakeMove", move)["game"]
        mark = "X" if after["xUserId"] == self.user_id else "O"
        assert int(after["version"]) > int(game["version"])
        assert after["board"][cell] == mark, after
        assert len(after["moves"]) == 9 - after["board"].count("."), after
        assert self.call(f"{GAME}/MakeMove", move)["game"] == after
        return after

    def play_computer(self, mark, choose):
        """Plays the computer to the end. `choose` picks from {cell: value for this player}."""
        game = self.call(f"{GAME}/CreateGame", {"opponent": "OPPONENT_COMPUTER", "mark": f"MARK_{mark}"})["game"]
        other = "O" if mark == "X" else "X"
        assert len(game["moves"]) == (0 if mark == "X" else 1), "X begins"
        while game["state"] == "GAME_STATE_TURN":
            assert game["turnUserId"] == self.user_id
            board = game["board"]
            values = {cell: -value(put(board, cell, mark), other) for cell in free_cells(board)}
            game = self.move(game, choose(values, key=values.get))
        assert game["finishTime"]
        return game


def win(winner, loser, game):
    """Plays a joined game, in which the winner has X and takes the first row."""
    for player, cell in zip([winner, loser] * 3, [0, 3, 1, 4, 2]):
        game = player.move(game, cell)
    return game
