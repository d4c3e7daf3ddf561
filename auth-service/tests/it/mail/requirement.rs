//! Start of the rule that users must verify their address before they log in. Users from before it
//! have 30 days.

use std::time::Duration;

use proto::auth::v1::auth_service_client::AuthServiceClient;
use testing::{TestDatabase, on_both_backends};
use tonic::{Code, Status, transport::Channel};

use super::{MailServer, settings_of};
use crate::support::{
    PASSWORD,
    callers::{is, refusal},
    credentials,
};

const MINUTE: Duration = Duration::from_mins(1);
const DAY_SECONDS: i64 = 24 * 3600;

/// Starts a replica with or without the rule. Its clock is ahead by this many seconds.
async fn replica(mails: &MailServer, is_required: bool, ahead: i64) -> AuthServiceClient<Channel> {
    let mut arguments = mails.arguments.clone();
    if is_required {
        arguments.push("--require-verified-email".to_owned());
    }
    mails.server.replica_ahead(ahead, &settings_of(&arguments)).await.1
}

async fn login(mut client: AuthServiceClient<Channel>) -> Result<(), Status> {
    client.login(credentials("ann", PASSWORD)).await.map(drop)
}

#[on_both_backends]
async fn the_rule_starts_anew_after_more_than_an_hour_without_it(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    let clock = &mails.server.clock;
    replica(&mails, true, 0).await;
    clock.advance(MINUTE);
    mails.server.register("ann").await;
    let not_verified = is(Code::FailedPrecondition, "EMAIL_NOT_VERIFIED");
    // Each row: whether a replica without the rule starts first, and the minutes until one with the
    // rule does.
    for (is_off, minutes) in [(false, 5), (true, 60), (false, 61)] {
        if is_off {
            replica(&mails, false, 0).await;
        }
        clock.advance(MINUTE * minutes);
        let refused = login(replica(&mails, true, 0).await).await;
        assert_eq!(refusal(refused), not_verified, "off: {is_off}, {minutes} minutes");
    }
    replica(&mails, false, 0).await;
    clock.advance(MINUTE * 30);
    // Only the first replica without the rule counts.
    replica(&mails, false, 0).await;
    clock.advance(MINUTE * 31);
    let client = replica(&mails, true, 0).await;
    login(client).await.expect("a user from before the rule");
}

#[on_both_backends]
async fn a_start_of_the_rule_in_the_future_is_corrected(database: TestDatabase) {
    let mails = MailServer::start(database).await;
    replica(&mails, true, DAY_SECONDS).await;
    let client = replica(&mails, true, 0).await;
    mails.server.clock.advance(MINUTE);
    mails.server.register("ann").await;
    assert_eq!(
        refusal(login(client).await),
        is(Code::FailedPrecondition, "EMAIL_NOT_VERIFIED")
    );
}
