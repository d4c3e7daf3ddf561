use super::*;
use crate::{
    Error,
    testing::{TestDatabase, on_both_backends},
    text_enum, write_tx,
};

/// 9999-12-31T23:59:59.999999Z, the last moment of `google.protobuf.Timestamp`.
const LAST: Timestamp = Timestamp::from_micros(253_402_300_799_999_999);

#[on_both_backends]
async fn ids_and_timestamps_round_trip(database: TestDatabase) {
    let moments = [0, 1, -1, 946_684_799_999_999, 946_684_800_000_000, LAST.as_micros()];
    let mut written = Vec::new();
    for (index, micros) in moments.into_iter().enumerate() {
        let mut account = Account::new(&index.to_string());
        account.created = Timestamp::from_micros(micros);
        account.seen = (index > 0).then_some(Timestamp::from_micros(micros));
        account.inviter = written.as_slice().first().map(|inviter: &Account| inviter.id);
        written.push(account);
    }
    let outcome: Result<()> = write_tx!(database.db(), |tx| {
        for account in &written {
            account_insert(tx, account).await?;
        }
        Ok(())
    });
    outcome.unwrap();
    let mut conn = database.db().read().await.unwrap();
    for account in written {
        assert_eq!(account_by_id(&mut conn, account.id).await.unwrap(), Some(account));
    }
    assert_eq!(account_by_id(&mut conn, UserId::generate()).await.unwrap(), None);
}

#[on_both_backends]
async fn timestamps_compare_in_the_database(database: TestDatabase) {
    let mut account = Account::new("kim");
    account.created = LAST;
    let outcome: Result<()> = write_tx!(database.db(), |tx| account_insert(tx, &account).await);
    outcome.unwrap();
    let mut conn = database.db().read().await.unwrap();
    let before = |moment: Timestamp| accounts::table.filter(accounts::created.lt(moment)).count();
    let count: Result<i64> = query!(&mut conn, |c| before(LAST).get_result(c).await);
    assert_eq!(count.unwrap(), 0);
    let count: Result<i64> = query!(&mut conn, |c| before(LAST.plus(std::time::Duration::from_micros(1)))
        .get_result(c)
        .await);
    assert_eq!(count.unwrap(), 1);
}

#[on_both_backends]
async fn a_second_row_of_the_same_login_names_the_constraint(database: TestDatabase) {
    let outcome: Result<()> = write_tx!(database.db(), |tx| {
        account_insert(tx, &Account::new("kim")).await?;
        account_insert(tx, &Account::new("kim")).await
    });
    let error = outcome.unwrap_err();
    assert!(error.is_unique_violation_of("accounts", "login"), "{error:?}");
    assert!(!error.is_unique_violation_of("accounts", "id"));
    assert!(!error.is_unique_violation_of("pairs", "login"));

    let outcome: Result<usize> = write_tx!(database.db(), |tx| {
        pair_insert(tx, 1, 5, 6).await?;
        pair_insert(tx, 2, 5, 6).await
    });
    let error = outcome.unwrap_err();
    assert!(error.is_unique_violation_of("pairs", "a_b"), "{error:?}");
}

#[on_both_backends]
async fn a_foreign_key_violation_is_not_a_unique_violation(database: TestDatabase) {
    let mut account = Account::new("kim");
    account.inviter = Some(UserId::generate());
    let outcome: Result<()> = write_tx!(database.db(), |tx| account_insert(tx, &account).await);
    // References are looked up first, so someone else must have deleted the row.
    assert!(matches!(outcome, Err(Error::Conflict(_))), "{outcome:?}");
}

text_enum! {
    /// A login that is a color.
    enum Color {
        Red = "red",
        Blue = "blue",
    }
}

#[on_both_backends]
async fn an_unknown_enum_text_is_an_error_that_names_it(database: TestDatabase) {
    let outcome: Result<()> = write_tx!(database.db(), |tx| {
        for login in [Color::Red.as_str(), Color::Blue.as_str(), "green"] {
            account_insert(tx, &Account::new(login)).await?;
        }
        Ok(())
    });
    outcome.unwrap();
    let mut conn = database.db().read().await.unwrap();
    let known = || accounts::table.filter(accounts::login.eq_any([Color::Red, Color::Blue]));
    let colors: Result<Vec<Color>> = query!(&mut conn, |c| known()
        .order(accounts::login)
        .select(accounts::login)
        .load(c)
        .await);
    assert_eq!(colors.unwrap(), [Color::Blue, Color::Red]);
    let colors: Result<Vec<Color>> = query!(&mut conn, |c| accounts::table.select(accounts::login).load(c).await);
    let error = colors.unwrap_err();
    assert!(matches!(error, Error::Internal(_)), "{error:?}");
    assert!(error.to_string().contains(r#""green" is not a Color"#), "{error}");
}
