//! The export of a user's own data, in `AccountService`.

use ::proto::auth::v1::{self as proto, ExportMeRequest, ExportMeResponse};
use base::{
    ids::{SessionId, UserId},
    page::PageRequest,
    validate::{Fields, InvalidFields},
};
use tonic::{Request, Response, Status};

use super::{audit, convert, factors, request_context::request_context};
use crate::{
    domain::{Accounts, Error, ExportLists, ExportPage, ExportPart, ExportedAccount, LimitCount},
    model::{EmailUndo, MailedCode, WaitingMail},
};

pub(super) async fn export_me(
    accounts: &Accounts,
    request: Request<ExportMeRequest>,
) -> Result<Response<ExportMeResponse>, Status> {
    let context = request_context(&request);
    let user_id = context.user_id().ok_or(Error::UserNotFound)?;
    let (part, lists) = paging(user_id, &request.into_inner())?;
    let page = accounts.export(&context, part, &lists).await?;
    Ok(Response::new(response(page, context.session_id())))
}

/// Returns the part that the page begins with, and the lists that page tokens are bound to. A token
/// is valid for only one of the two lists, so it shows which one it continues.
fn paging(user_id: UserId, request: &ExportMeRequest) -> Result<(ExportPart, ExportLists), InvalidFields> {
    let lists = ExportLists {
        sessions: format!("ExportMe\nsessions\n{user_id}"),
        events: format!("ExportMe\nevents\n{user_id}"),
    };
    let (size, token) = (request.page_size, &request.page_token);
    let mut fields = Fields::new();
    let part = match PageRequest::parse(&mut Fields::new(), size, token, &lists.sessions) {
        Some(page) => Some(ExportPart::Sessions(page)),
        None => PageRequest::parse(&mut fields, size, token, &lists.events).map(ExportPart::Events),
    };
    fields.finish(|| Some((part?, lists)))
}

fn response(page: ExportPage, current: Option<SessionId>) -> ExportMeResponse {
    let mut response = page.account.map(account).unwrap_or_default();
    let sessions = page.sessions.into_iter();
    response.sessions = sessions
        .map(|(session, device)| proto::ExportedSession {
            session: Some(convert::session(session, current)),
            device_id: device.map(|device| device.to_string()).unwrap_or_default(),
        })
        .collect();
    let logins = page.logins;
    let events = page.events.into_iter();
    response.audit_events = events.map(|entry| audit::event(entry, &logins)).collect();
    response.next_page_token = page.next_page_token;
    response
}

fn account(account: ExportedAccount) -> ExportMeResponse {
    ExportMeResponse {
        email_is_taken: account.profile.user.email_is_taken,
        user: Some(convert::user(account.profile.user)),
        roles: account.profile.roles,
        permissions: account.profile.permissions,
        codes: account.codes.into_iter().map(code).collect(),
        former_emails: account.former_emails.into_iter().map(former_email).collect(),
        email_remind_time: account.email_remind_time.map(Into::into),
        waiting_mails: account.mails.into_iter().map(waiting_mail).collect(),
        limit_counts: account.limits.into_iter().map(limit_count).collect(),
        second_factors: account.factors.into_iter().map(factors::second_factor).collect(),
        recovery_code_times: account.recovery_code_times.into_iter().map(Into::into).collect(),
        ..ExportMeResponse::default()
    }
}

fn code(code: MailedCode) -> proto::MailedCode {
    proto::MailedCode {
        purpose: code.purpose,
        create_time: Some(code.create_time.into()),
        expire_time: Some(code.expire_time.into()),
        typed_tries: i32::try_from(code.typed_tries).unwrap_or(i32::MAX),
        email: code.email.unwrap_or_default(),
    }
}

fn former_email(undo: EmailUndo) -> proto::FormerEmail {
    proto::FormerEmail {
        email: undo.email,
        create_time: Some(undo.create_time.into()),
        expire_time: Some(undo.expire_time.into()),
    }
}

fn waiting_mail(mail: WaitingMail) -> proto::WaitingMail {
    proto::WaitingMail {
        kind: mail.kind,
        recipient: mail.recipient,
        locale: mail.locale,
        create_time: Some(mail.create_time.into()),
        attempts: i32::try_from(mail.attempts).unwrap_or(i32::MAX),
    }
}

fn limit_count(count: LimitCount) -> proto::LimitCount {
    proto::LimitCount {
        limit: count.name,
        count: i32::try_from(count.count).unwrap_or(i32::MAX),
        expire_time: count.expire_time.map(Into::into),
    }
}
