// Session of the page: the logged-in user, and API calls that renew the access token.
//
// The access tokens are only in one variable and are gone when the page closes. Each service gets a token of its own, which
// the other service does not accept. The refresh token is in an HttpOnly cookie that no script can read: with
// `x-token-transport: cookie` the server sets it at the login, replaces it at each rotation and deletes it at the logout. An
// injected script can therefore act while the page is open, but cannot steal a token that is valid for longer than half an
// hour, except the credential of a guest. (The device token stays in localStorage. It grants no access: it only prevents wrong guesses elsewhere from locking
// this device out.)
// A guest has no password, but a credential that does not expire. It is in localStorage, which outlives the cookie. An injected
// script can read it, and act as the guest until the account is upgraded.
// Over plain HTTP a browser opens six connections to a host, and each open stream takes one. Use TLS, and so HTTP/2, in front.

// The address of the API, if the page comes from another origin, for example "https://api.example.com". Such a page needs the two settings of
// deploy/docs/your-own-page.md, and must belong to the same site: localhost and 127.0.0.1 are two sites.
const API = "";
const request = (path, options) => fetch(API + path, { credentials: API ? "include" : "same-origin", ...options });
const GAMES = "game-service";
const ACCOUNTS = "auth-service";
// Milliseconds of silence after which a connection counts as dead. A stream sends a message at least every
// 30 seconds, and the gateway ends any other call after 30 seconds.
const SILENCE = 45_000;
const audienceOf = (path) => (/^\/v1\/(games|open-games|finished-games|head-to-head|leaderboard)\b/.test(path) ? GAMES : ACCOUNTS);
const accessTokens = new Map();
// User of the access tokens. Another tab may log in as a different user, and all tabs share the cookie.
let userId = null;
const listeners = new Set();
const tabs = new BroadcastChannel("session");

// An error of the API: a google.rpc.Status, with the reason by which code decides.
export class ApiError extends Error {
  constructor(httpStatus, status) {
    super(status?.message || `HTTP ${httpStatus}`);
    this.httpStatus = httpStatus;
    const detail = (type) => status?.details?.find((each) => each["@type"].endsWith(`google.rpc.${type}`));
    this.reason = detail("ErrorInfo")?.reason ?? "";
    this.metadata = detail("ErrorInfo")?.metadata ?? {};
    this.fields = detail("BadRequest")?.fieldViolations ?? [];
    // Seconds after which it makes sense to try again.
    this.retrySeconds = parseFloat(detail("RetryInfo")?.retryDelay ?? "0");
  }
}

// Calls the listener with the user after a login, and with null and a message after the session has ended.
export const onChange = (listener) => listeners.add(listener);

// Sets how the user is asked for a proof, when a call needs a more recent login: for a code if it needs two factors, otherwise
// for the password. The function returns a promise of the proof, or of null if the user does not give it.
let askForProof = async () => null;
export const onStepUp = (ask) => { askForProof = ask; };

// Returns whether the user is logged in, and otherwise the challenge if there is one: a deployment may want a second factor or
// the address confirmed first.
export async function register(account) {
  const registered = await post("/v1/auth/register", { ...account, passwordConfirmation: account.password, audience: GAMES });
  if (registered.tokens) begin(registered);
  return { isLoggedIn: Boolean(registered.tokens), challenge: registered.challenge };
}

// Makes a call about an account's e-mail address: as the logged-in user, or with an identifier and a password, because a
// user who has not confirmed the address may be unable to log in.
export const callAboutEmail = (action, body) =>
  userId ? call("POST", `/v1/me/email${action}`, body) : post(`/v1/me/email${action}`, body);

// Logs in, and sets a new password if one is given. A password set by an administrator must be replaced at the login. Returns a
// challenge if the login needs a second factor.
export async function login(identifier, password, newPassword) {
  // The token from this device's earlier login replaces that session, and wrong guesses elsewhere do not lock this device out.
  const deviceToken = localStorage.getItem(`device ${identifier}`) ?? "";
  const change = newPassword ? { newPassword, newPasswordConfirmation: newPassword } : {};
  return pass(await post("/v1/auth/login", { identifier, password, deviceToken, audience: GAMES, ...change }), identifier);
}

// Begins the session of a login, unless it needs a second factor.
function pass(answer, identifier) {
  if (answer.challenge) return answer.challenge;
  begin(answer, identifier);
  return null;
}

// A code of an authenticator app has six digits; everything else is a recovery code.
const codeProof = (code) => (/^(\s*\d){6}\s*$/.test(code) ? { totpCode: code } : { recoveryCode: code });

// Completes a login with a code. Returns the recovery codes, if the login has added the first second factor.
export async function completeLogin({ challengeToken }, code, identifier) {
  const completed = await post("/v1/auth/complete-login", { challengeToken, ...codeProof(code) });
  begin(completed, identifier);
  return completed.recoveryCodes;
}

// Makes the secret of an authenticator app for a user who must add one.
export const beginEnrolment = ({ challengeToken }, emailCode) => post("/v1/auth/begin-enrolment", { challengeToken, emailCode });

// The guest whom this browser can log in: the login and the credential, or null.
export const knownGuest = () => JSON.parse(localStorage.getItem("guest") ?? "null");

// Logs the known guest in, or registers a new one. CREDENTIALS_INVALID means that the known guest was deleted, upgraded on
// another device, or deactivated. The credential stays, because a deactivated guest may be reactivated.
export async function playAsGuest() {
  const known = knownGuest();
  if (known) {
    const deviceToken = localStorage.getItem(`device ${known.login}`) ?? "";
    return begin(await post("/v1/auth/login-guest", { guestCredential: known.credential, deviceToken, audience: GAMES }));
  }
  const registered = await post("/v1/auth/register-guest", { audience: GAMES });
  const guest = { login: registered.user.login, credential: registered.guestCredential };
  localStorage.setItem("guest", JSON.stringify(guest));
  return begin(registered);
}

// Deletes the credential of the known guest. If the guest is logged in, the session goes on.
export function forgetGuest() {
  localStorage.removeItem(`device ${knownGuest()?.login}`);
  localStorage.removeItem("guest");
}

// Turns the guest who is logged in into a user with a password. Returns whether the user is still logged in.
export async function upgrade(account) {
  const body = { ...account, passwordConfirmation: account.password };
  const { user, tokens } = await changeSession("/v1/me:upgrade", body);
  forgetGuest();
  if (!tokens) {
    end("");
    return false;
  }
  replaceTokens(tokens);
  tell(user);
  return true;
}

// Changes the password. All other sessions of the user end.
export async function changePassword({ currentPassword, newPassword }) {
  const body = { currentPassword, newPassword, newPasswordConfirmation: newPassword };
  const { tokens } = await changeSession("/v1/me/password", body);
  replaceTokens(tokens);
}

// Ends all sessions of the user, including this one.
export async function logoutEverywhere() {
  await changeSession("/v1/auth/revoke-all", {});
  tabs.postMessage(null);
  end("You are logged out everywhere.");
}

// Deletes the account of the logged-in user. A user confirms that with the password, and a guest, who has none, with the
// credential.
export async function deleteAccount({ login, email, isGuest }, currentPassword) {
  await changeSession("/v1/me:delete", isGuest ? { guestCredential: knownGuest()?.credential } : { currentPassword });
  if (isGuest) forgetGuest();
  for (const identifier of [login, email]) localStorage.removeItem(`device ${identifier}`);
  tabs.postMessage(null);
  end("Your account is deleted.");
}

// Asks for a mail with a code. The answer does not tell whether there is such a user.
export async function requestPasswordReset(identifier) {
  const deviceToken = localStorage.getItem(`device ${identifier}`) ?? "";
  await post("/v1/auth/request-password-reset", { identifier, deviceToken });
}

// Replaces a forgotten password with the code from the mail, and logs in. Returns a challenge if that needs a second factor.
export async function resetPassword({ identifier, code, newPassword }) {
  const reset = { identifier, code, newPassword, newPasswordConfirmation: newPassword, audience: GAMES };
  return pass(await post("/v1/auth/reset-password", reset), identifier);
}

// Restores the session after a reload. The cookie identifies the user.
export async function restore() {
  // A user may have logged in with the form while the server was out of reach.
  if (userId) return;
  try {
    await renew(GAMES);
    tell((await call("GET", "/v1/me")).user);
  } catch (error) {
    if (isOver(error)) return end("");
    end("The server cannot be reached. Trying again …");
    setTimeout(restore, 3000);
  }
}

// Rejects if the server cannot be reached, because the session and its cookie still exist then.
export async function logout() {
  await post("/v1/auth/logout", {}).catch((error) => {
    if (!isOver(error)) throw error;
  });
  tabs.postMessage(null);
  end("You are logged out.");
}

// Returns whether an error means that the session has ended. Other errors can be retried, even a token that is not valid yet
// because a clock is wrong.
const isOver = (error) =>
  error instanceof ApiError && [400, 401].includes(error.httpStatus) && error.reason !== "TOKEN_NOT_YET_VALID";
export const wait = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

// Calls the API as the logged-in user.
export async function call(method, path, body) {
  const patience = new Patience();
  try {
    return await (await send(method, path, body, patience.signal)).json();
  } finally {
    patience.end();
  }
}

// Passes each message of a stream to the listener until the stream ends. Uses fetch, because EventSource cannot send an
// access token.
export async function watch(path, listener, signal) {
  const patience = new Patience();
  try {
    const response = await send("GET", path, undefined, AbortSignal.any([signal, patience.signal]));
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let text = ""; ; ) {
      const { value, done } = await reader.read();
      if (done) return;
      patience.begin();
      const events = (text + value).split("\n\n");
      text = events.pop();
      for (const event of events) listener(JSON.parse(event.replace(/^data: ?/, "")));
    }
  } finally {
    patience.end();
  }
}

// Aborts a request that receives nothing for too long.
class Patience {
  #silence = new AbortController();
  #timer;
  signal = this.#silence.signal;

  constructor() {
    this.begin();
  }

  begin() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#silence.abort(), SILENCE);
  }

  end() {
    clearTimeout(this.#timer);
  }
}

async function send(method, path, body, signal) {
  const audience = audienceOf(path);
  const user = userId;
  if (!accessTokens.has(audience)) await renew(audience);
  let used = null;
  const attempt = () => {
    used = accessTokens.get(audience);
    return request(path, {
      method,
      signal,
      headers: { authorization: `Bearer ${used}`, "content-type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  };
  let response = await attempt();
  for (let tries = 1; response.status === 401; tries++) {
    const error = await errorOf(response);
    // An expired token is renewed, and the renewed one may still be of an old login.
    if (!isOver(error) || tries > 2) throw error;
    if (error.reason === "STEP_UP_REQUIRED") {
      await reauthenticate(audience, body, error);
    } else if (["TOKEN_EXPIRED", "TOKEN_STALE", "AUDIENCE_REQUIRED"].includes(error.reason)) {
      // The token has expired, was issued before the roles changed, or lacks the audience: the session continues.
      await renew(audience, used);
    } else {
      // For any other reason it has ended. A late response must not end the session of a user who has logged in since.
      if (accessTokens.get(audience) === used) end("You were logged out.");
      throw error;
    }
    if (userId !== user) throw error;
    response = await attempt();
  }
  if (!response.ok) throw await errorOf(response);
  return response;
}

// Gets an access token for this service that says that the user has just proved who they are. It is used until it expires or
// is renewed. Sends the password or the guest's credential of the refused call, or asks for the password. If two factors are
// needed, asks for a code instead.
async function reauthenticate(audience, body, refused) {
  const user = userId;
  const proof = await proofFor(body, refused.metadata.acr_values === "2");
  if (!Object.values(proof)[0] || userId !== user) throw refused;
  const { accessToken } = await call("POST", "/v1/me:reauthenticate", { ...proof, audience });
  if (userId !== user) throw refused;
  accessTokens.set(audience, accessToken);
}

// Returns the proof for a call that needs a more recent login, or two factors.
async function proofFor(body, needsCode) {
  if (needsCode) return codeProof(await askOnce(needsCode));
  if (body && "guestCredential" in body) return { guestCredential: body.guestCredential };
  return { password: body?.currentPassword ?? (await askOnce(needsCode)) };
}

// Several calls that are refused at the same time ask once.
const asking = new Map();

function askOnce(needsCode) {
  if (!asking.has(needsCode)) asking.set(needsCode, askForProof(needsCode).finally(() => asking.delete(needsCode)));
  return asking.get(needsCode);
}

// Replaces the access token for this service, unless that has happened since `used` was read. Only one tab does this at
// a time: a refresh token is good for one rotation, and a second one would look like theft.
function renew(audience, used) {
  return navigator.locks.request("rotate", async () => {
    if (accessTokens.get(audience) !== used) return;
    for (let tries = 1; ; tries++) {
      try {
        const renewed = audience === GAMES ? await rotate() : await refresh(audience);
        const owner = JSON.parse(atob(renewed.split(".")[1].replaceAll("-", "+").replaceAll("_", "/"))).sub;
        if (userId && owner !== userId) return end("Another user has logged in in this browser.");
        userId = owner;
        accessTokens.set(audience, renewed);
        return;
      } catch (error) {
        if (isOver(error)) {
          localStorage.removeItem("rotation");
          end("You were logged out.");
          throw error;
        }
        // The server is busy or out of reach, or the response was lost. Repeat the request with the same id.
        if (tries === 3) throw error;
        await wait(1000 * tries);
      }
    }
  });
}

// Gets a new refresh token, in the cookie, and an access token for the games.
async function rotate() {
  // Kept until the answer arrives. If the answer is lost, the same id sent again gives the same token.
  const requestId = localStorage.getItem("rotation") ?? crypto.randomUUID();
  localStorage.setItem("rotation", requestId);
  const { accessToken } = (await post("/v1/auth/rotate", { requestId, audience: GAMES })).tokens;
  localStorage.removeItem("rotation");
  return accessToken;
}

// Gets an access token for another service. The refresh token stays, unless it is old enough to need a rotation first.
async function refresh(audience) {
  try {
    return (await post("/v1/auth/refresh", { audience })).accessToken;
  } catch (error) {
    if (error.reason !== "ROTATION_REQUIRED") throw error;
    await rotate();
    return (await post("/v1/auth/refresh", { audience })).accessToken;
  }
}

// Makes a call that gives the session a new refresh token, in the cookie, or ends it. No rotation may come in between.
async function changeSession(path, body) {
  if (!accessTokens.has(ACCOUNTS)) await renew(ACCOUNTS);
  const user = userId;
  for (let tries = 1; ; tries++) {
    const used = accessTokens.get(ACCOUNTS);
    try {
      return await navigator.locks.request("rotate", () =>
        post(path, body, { authorization: `Bearer ${accessTokens.get(ACCOUNTS)}` }),
      );
    } catch (error) {
      if (tries > 2) throw error;
      if (error.reason === "STEP_UP_REQUIRED") await reauthenticate(ACCOUNTS, body, error);
      else if (["TOKEN_EXPIRED", "TOKEN_STALE"].includes(error.reason)) await renew(ACCOUNTS, used);
      else throw error;
      if (userId !== user) throw error;
    }
  }
}

async function post(path, body, more = {}) {
  const headers = { "content-type": "application/json", "x-token-transport": "cookie", ...more };
  const patience = new Patience();
  try {
    const response = await request(path, { method: "POST", headers, body: JSON.stringify(body), signal: patience.signal });
    if (!response.ok) throw await errorOf(response);
    return await response.json();
  } finally {
    patience.end();
  }
}

async function errorOf(response) {
  return new ApiError(response.status, await response.json().catch(() => null));
}

// Keeps the access token that came with a new refresh token. Those for other services are stale.
function replaceTokens({ accessToken }) {
  accessTokens.clear();
  accessTokens.set(ACCOUNTS, accessToken);
}

function begin({ user, tokens, deviceToken }, identifier = user.login) {
  accessTokens.clear();
  accessTokens.set(GAMES, tokens.accessToken);
  userId = user.userId;
  tabs.postMessage(userId);
  localStorage.setItem(`device ${identifier}`, deviceToken);
  tell(user);
}

function end(reason) {
  accessTokens.clear();
  userId = null;
  tell(null, reason);
}

function tell(user, reason = "") {
  for (const listener of listeners) listener(user, reason);
}

// Another tab has logged out or in.
tabs.onmessage = ({ data }) => {
  if (!data) end("You are logged out.");
  else if (userId && data !== userId) end("Another user has logged in in this browser.");
};
