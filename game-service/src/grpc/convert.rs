//! Conversion of domain values to protobuf messages.

use ::proto::game::v1 as proto;
use access::{policy::GUEST, token::Principal};
use base::ids::UserId;

use crate::{
    domain::{End, GameView, LeaderboardEntry, Opponent, Player, State},
    rules::Mark,
};

pub(super) fn player(principal: &Principal) -> Player {
    Player {
        id: principal.user_id(),
        login: principal.login().to_owned(),
        is_guest: principal.has_role(GUEST),
    }
}

pub(super) fn game(view: GameView) -> proto::Game {
    let GameView { game, x_login, o_login } = view;
    let (state, turn, winner) = match game.state {
        State::Waiting => (proto::GameState::WaitingForPlayer, None, None),
        State::Turn(mark) => (proto::GameState::Turn, Some(mark), None),
        State::Won(mark) => (proto::GameState::Won, None, Some(mark)),
        State::Draw => (proto::GameState::Draw, None, None),
        State::Cancelled => (proto::GameState::Cancelled, None, None),
    };
    proto::Game {
        game_id: game.id.to_string(),
        version: game.version,
        board: game.board.to_string(),
        state: state.into(),
        turn_user_id: user(turn.and_then(|mark| game.player(mark))),
        winner_user_id: user(winner.and_then(|mark| game.player(mark))),
        x_user_id: user(game.x),
        o_user_id: user(game.o),
        moves: game
            .moves
            .iter()
            .map(|made| proto::Move {
                cell: Some(made.cell.number()),
                mark: mark(made.mark).into(),
                user_id: user(made.player),
                create_time: Some(made.time.into()),
            })
            .collect(),
        create_time: Some(game.create_time.into()),
        finish_time: game.finish_time.map(Into::into),
        opponent: match game.opponent {
            Opponent::Computer => proto::Opponent::Computer,
            Opponent::Player => proto::Opponent::Player,
        }
        .into(),
        winner_mark: winner.map_or(proto::Mark::Unspecified, mark).into(),
        x_login,
        o_login,
        last_move_time: game.last_move_time().map(Into::into),
        end_reason: game.end.map_or(proto::EndReason::Unspecified, end_reason).into(),
        expire_time: game.expire_time.map(Into::into),
        is_ranked: game.is_ranked,
    }
}

pub(super) fn entry(entry: LeaderboardEntry) -> proto::LeaderboardEntry {
    let LeaderboardEntry { player, login } = entry;
    proto::LeaderboardEntry {
        rank: player.rank,
        user_id: player.user_id.to_string(),
        login,
        wins: player.standing.wins.into(),
        losses: player.standing.losses.into(),
        draws: player.standing.draws.into(),
        win_ratio: player.standing.win_ratio(),
    }
}

fn user(id: Option<UserId>) -> String {
    id.map(|id| id.to_string()).unwrap_or_default()
}

const fn end_reason(end: End) -> proto::EndReason {
    match end {
        End::Line => proto::EndReason::Line,
        End::FullBoard => proto::EndReason::FullBoard,
        End::Resignation => proto::EndReason::Resignation,
        End::Cancellation => proto::EndReason::Cancellation,
        End::Timeout => proto::EndReason::Timeout,
        End::Expiry => proto::EndReason::Expiry,
    }
}

const fn mark(mark: Mark) -> proto::Mark {
    match mark {
        Mark::X => proto::Mark::X,
        Mark::O => proto::Mark::O,
    }
}
