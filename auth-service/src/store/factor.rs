//! Queries on `totp_factors` and `recovery_codes`. Callers that write have locked the user's row.

use base::{clock::Timestamp, ids::UserId};
use db::prelude::*;

use super::{
    columns::columns,
    schema::{recovery_codes, sessions, totp_factors, users},
};
use crate::{
    ids::{ChallengeId, FactorId},
    model::{RecoveryCode, TotpFactor},
};

columns!(insertable TotpFactor in totp_factors {
    id: FactorId,
    user_id: UserId,
    display_name: String,
    sealed_secret: Vec<u8>,
    last_step: i64,
    challenge_id: Option<ChallengeId>,
    create_time: Timestamp,
    confirm_time: Option<Timestamp>,
});

columns!(insertable RecoveryCode in recovery_codes {
    user_id: UserId,
    mac: Vec<u8>,
    create_time: Timestamp,
});

pub(crate) async fn totp_factor_insert(conn: &mut Conn, factor: &TotpFactor) -> db::Result<()> {
    let insert = diesel::insert_into(totp_factors::table).values(factor);
    query!(conn, |c| insert.execute(c).await).map(|_| ())
}

/// Returns all factors of the user, the oldest first, including those that are not confirmed.
pub(crate) async fn totp_factors(conn: &mut Conn, user_id: UserId) -> db::Result<Vec<TotpFactor>> {
    query!(conn, |c| totp_factors::table
        .filter(totp_factors::user_id.eq(user_id))
        .order((totp_factors::create_time, totp_factors::id))
        .select(TotpFactor::as_select())
        .load(c)
        .await)
}

/// Records that a code of this time step was accepted. The first one confirms the factor.
pub(crate) async fn totp_factor_use(
    conn: &mut Conn,
    id: FactorId,
    step: i64,
    confirm_time: Timestamp,
) -> db::Result<()> {
    let update = diesel::update(totp_factors::table.find(id)).set((
        totp_factors::last_step.eq(step),
        totp_factors::confirm_time.eq(confirm_time),
        totp_factors::challenge_id.eq(None::<ChallengeId>),
    ));
    query!(conn, |c| update.cached().execute(c).await).map(|_| ())
}

/// Replaces the encrypted secret by the same one under the current key.
pub(crate) async fn totp_factor_reseal(conn: &mut Conn, id: FactorId, sealed: &[u8]) -> db::Result<()> {
    let update = diesel::update(totp_factors::table.find(id)).set(totp_factors::sealed_secret.eq(sealed));
    query!(conn, |c| update.cached().execute(c).await).map(|_| ())
}

pub(crate) async fn totp_factor_delete(conn: &mut Conn, id: FactorId) -> db::Result<()> {
    let delete = diesel::delete(totp_factors::table.find(id));
    query!(conn, |c| delete.execute(c).await).map(|_| ())
}

/// Deletes all factors of the user, including those that are not confirmed.
pub(crate) async fn totp_factors_delete(conn: &mut Conn, user_id: UserId) -> db::Result<()> {
    let delete = diesel::delete(totp_factors::table.filter(totp_factors::user_id.eq(user_id)));
    query!(conn, |c| delete.execute(c).await).map(|_| ())
}

/// Returns at most `limit` factors after this one, in the order of their ids.
pub(crate) async fn totp_factors_after(
    conn: &mut Conn,
    after: Option<FactorId>,
    limit: i64,
) -> db::Result<Vec<TotpFactor>> {
    let after = after.unwrap_or(FactorId::from_uuid(uuid::Uuid::nil()));
    query!(conn, |c| totp_factors::table
        .filter(totp_factors::id.gt(after))
        .order(totp_factors::id)
        .select(TotpFactor::as_select())
        .limit(limit)
        .load(c)
        .await)
}

/// Deletes at most `limit` factors that were created before this time and never confirmed. Returns
/// their number.
pub(crate) async fn totp_factors_delete_unconfirmed(
    conn: &mut Conn,
    before: Timestamp,
    limit: i64,
) -> db::Result<usize> {
    let old: Vec<FactorId> = query!(conn, |c| totp_factors::table
        .filter(totp_factors::confirm_time.is_null())
        .filter(totp_factors::create_time.lt(before))
        .order(totp_factors::create_time)
        .limit(limit)
        .select(totp_factors::id)
        .load(c)
        .await)?;
    // One may have been confirmed meanwhile.
    let unconfirmed = totp_factors::table
        .filter(totp_factors::id.eq_any(&old))
        .filter(totp_factors::confirm_time.is_null());
    query!(conn, |c| diesel::delete(unconfirmed).execute(c).await)
}

/// Replaces all recovery codes of the user.
pub(crate) async fn recovery_codes_replace(conn: &mut Conn, user_id: UserId, codes: &[RecoveryCode]) -> db::Result<()> {
    recovery_codes_delete(conn, user_id).await?;
    for code in codes {
        let insert = diesel::insert_into(recovery_codes::table).values(code);
        query!(conn, |c| insert.execute(c).await)?;
    }
    Ok(())
}

/// Deletes the recovery code with one of these HMACs. Returns false if the user has none.
pub(crate) async fn recovery_code_take(conn: &mut Conn, user_id: UserId, macs: &[Vec<u8>]) -> db::Result<bool> {
    let code = recovery_codes::table
        .filter(recovery_codes::user_id.eq(user_id))
        .filter(recovery_codes::mac.eq_any(macs));
    query!(conn, |c| diesel::delete(code).execute(c).await).map(|taken| taken > 0)
}

pub(crate) async fn recovery_codes_delete(conn: &mut Conn, user_id: UserId) -> db::Result<()> {
    let delete = diesel::delete(recovery_codes::table.filter(recovery_codes::user_id.eq(user_id)));
    query!(conn, |c| delete.execute(c).await).map(|_| ())
}

/// Deletes the user's recovery codes that were made at this time or later.
pub(crate) async fn recovery_codes_delete_since(conn: &mut Conn, user_id: UserId, since: Timestamp) -> db::Result<()> {
    let made_since = recovery_codes::table
        .filter(recovery_codes::user_id.eq(user_id))
        .filter(recovery_codes::create_time.ge(since));
    query!(conn, |c| diesel::delete(made_since).execute(c).await).map(|_| ())
}

/// Returns the times of the user's recovery codes that are left.
pub(crate) async fn recovery_code_times(conn: &mut Conn, user_id: UserId) -> db::Result<Vec<Timestamp>> {
    query!(conn, |c| recovery_codes::table
        .filter(recovery_codes::user_id.eq(user_id))
        .select(recovery_codes::create_time)
        .load(c)
        .await)
}

/// Records whether the user has a confirmed second factor.
pub(crate) async fn user_set_has_second_factor(conn: &mut Conn, id: UserId, has: bool) -> db::Result<()> {
    let update = diesel::update(users::table.find(id)).set(users::has_second_factor.eq(has));
    query!(conn, |c| update.cached().execute(c).await).map(|_| ())
}

/// Lets the live sessions of the user that began with two factors count as begun with a password
/// alone.
pub(crate) async fn sessions_forget_second_factor(
    conn: &mut Conn,
    user_id: UserId,
    (methods, acr): (&str, &str),
    of_two_factors: &str,
) -> db::Result<()> {
    let strong = sessions::table
        .filter(sessions::user_id.eq(user_id))
        .filter(sessions::end_time.is_null())
        .filter(sessions::acr.eq(of_two_factors));
    let update = diesel::update(strong).set((sessions::auth_methods.eq(methods), sessions::acr.eq(acr)));
    query!(conn, |c| update.cached().execute(c).await).map(|_| ())
}
