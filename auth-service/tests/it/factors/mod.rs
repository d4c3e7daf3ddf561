//! Second factors: enrolment, logins that need one, recovery codes, and resets.

mod challenges;
mod enrolment;
mod guesses;
pub(crate) mod required;
pub(crate) mod resets;

use proto::auth::v1::{
    CompleteLoginRequest, CompleteLoginResponse, ConfirmTotpFactorRequest, CreateTotpFactorRequest,
    CreateTotpFactorResponse, LoginChallenge, LoginResponse, ReauthenticateRequest,
    auth_service_client::AuthServiceClient, complete_login_request::Proof, reauthenticate_request,
};
use testing::rpc::with_token;
use tonic::{Status, transport::Channel};
use totp_rs::{Builder, Secret, Totp};

use crate::support::{PASSWORD, Server, callers::Caller, credentials};

/// Settings with which members of the role `guard` must have a second factor.
pub(crate) const REQUIRED: [&str; 2] = ["--require-second-factor", "guard"];

/// Seconds for which an app shows a code.
pub(crate) const STEP: u64 = 30;

/// An authenticator app, with the recovery codes that its user wrote down.
pub(crate) struct App {
    totp: Totp,
    /// Secret that the user typed.
    pub(crate) secret: String,
    pub(crate) factor_id: String,
    pub(crate) recovery_codes: Vec<String>,
}

impl App {
    /// Takes the secret that the user types.
    pub(crate) fn with_secret(base32: &str) -> Self {
        let secret = Secret::try_from_base32(base32).expect("a secret");
        Self {
            totp: Builder::new().with_secret(secret).build().expect("an app"),
            secret: base32.to_owned(),
            factor_id: String::new(),
            recovery_codes: Vec::new(),
        }
    }

    /// Adds the app to the account of the token's user.
    pub(crate) async fn added(server: &Server, token: &str) -> Self {
        let made = create(server, token).await.expect("made");
        let mut app = Self::with_secret(&made.secret);
        app.factor_id = made.factor.expect("a factor").factor_id;
        let code = app.code(server);
        app.recovery_codes = confirm(server, token, &app.factor_id, &code).await.expect("confirmed");
        app
    }

    /// Returns the code that the app shows now.
    pub(crate) fn code(&self, server: &Server) -> String {
        let now = server.clock.clock().now().as_seconds().unsigned_abs();
        self.totp.generate(now).to_string()
    }

    /// Returns a code that the app does not show.
    pub(crate) fn wrong_code(&self, server: &Server) -> String {
        let now = server.clock.clock().now().as_seconds().unsigned_abs();
        let shown: Vec<String> = (0..5)
            .map(|step| self.totp.generate(now + STEP * step - 2 * STEP).to_string())
            .collect();
        let mut all = (0..10).map(|digit| digit.to_string().repeat(6));
        all.find(|code| !shown.contains(code)).expect("a wrong code")
    }
}

/// Makes the role `guard`, and gives it to the user.
pub(crate) async fn make_guard(server: &Server, user_id: &str) {
    let token = server.superuser().await;
    let root = Caller::with_token(server, &token, "");
    root.make_role("guard", &[]).await;
    root.assign(user_id, "guard").await.expect("assigned");
}

/// Waits until apps show another code.
pub(crate) fn next_step(server: &Server) {
    server.clock.advance(std::time::Duration::from_secs(STEP));
}

pub(crate) async fn create(server: &Server, token: &str) -> Result<CreateTotpFactorResponse, Status> {
    let request = CreateTotpFactorRequest {
        display_name: "phone".to_owned(),
    };
    let made = server.account().create_totp_factor(with_token(request, token)).await?;
    Ok(made.into_inner())
}

/// Confirms a factor, and returns the recovery codes.
pub(crate) async fn confirm(server: &Server, token: &str, factor_id: &str, code: &str) -> Result<Vec<String>, Status> {
    let request = ConfirmTotpFactorRequest {
        factor_id: factor_id.to_owned(),
        totp_code: code.to_owned(),
    };
    let confirmed = server.account().confirm_totp_factor(with_token(request, token)).await?;
    Ok(confirmed.into_inner().recovery_codes)
}

pub(crate) async fn try_login(server: &Server, login: &str) -> LoginResponse {
    let answer = server.auth().login(credentials(login, PASSWORD)).await;
    answer.expect("the password is right").into_inner()
}

/// Logs in with the password, and returns the challenge for the second factor.
pub(crate) async fn challenge(server: &Server, login: &str) -> LoginChallenge {
    let answer = try_login(server, login).await;
    assert_eq!(
        (answer.tokens, answer.user, answer.device_token.as_str()),
        (None, None, "")
    );
    answer.challenge.expect("a challenge")
}

pub(crate) fn totp(code: &str) -> Proof {
    Proof::TotpCode(code.to_owned())
}

pub(crate) fn recovery(code: &str) -> Proof {
    Proof::RecoveryCode(code.to_owned())
}

pub(crate) async fn complete(
    client: &mut AuthServiceClient<Channel>,
    challenge: &LoginChallenge,
    proof: Proof,
) -> Result<CompleteLoginResponse, Status> {
    let request = CompleteLoginRequest {
        challenge_token: challenge.challenge_token.clone(),
        proof: Some(proof),
    };
    Ok(client.complete_login(request).await?.into_inner())
}

/// Proves the second factor once more, and returns an access token that says so.
pub(crate) async fn reauthenticate(
    server: &Server,
    token: &str,
    proof: reauthenticate_request::Proof,
) -> Result<String, Status> {
    let request = ReauthenticateRequest {
        proof: Some(proof),
        ..ReauthenticateRequest::default()
    };
    let answer = server.account().reauthenticate(with_token(request, token)).await?;
    Ok(answer.into_inner().access_token)
}

pub(crate) fn reauthentication(code: &str) -> reauthenticate_request::Proof {
    reauthenticate_request::Proof::TotpCode(code.to_owned())
}
