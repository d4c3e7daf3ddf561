// A session of a page: who is logged in, and calls that go on working while the access token is renewed.
//
// The access tokens live in one variable alone and are gone with the page. Each service gets a token of its own, which
// the other service does not accept. The refresh token is in an HttpOnly cookie that no script
// can read: with `x-token-transport: cookie` the server sets it at the login, replaces it at each rotation and takes it away at the logout.
// So whatever is injected into a page can act while the page is open, and carries away no token that is good for longer than half an hour. (The
// device token stays in localStorage. It opens nothing: it only keeps other people's wrong guesses from locking this device out.)
// A guest has no password, but a credential that logs in for good. It is in localStorage, because only that is still there after the cookie has
// expired. A script in the page can read it, and act as the guest until the account is upgraded.
// Over plain HTTP a browser has six connections for a host, and each open stream takes one: put TLS, and so HTTP/2, in front.

// The address of the API, if the page comes from another origin, for example "https://api.example.com". Such a page needs the two settings of
// deploy/docs/your-own-page.md, and must belong to the same site: localhost and 127.0.0.1 are two sites.
const API = "";
const request = (path, options) => fetch(API + path, { credentials: API ? "include" : "same-origin", ...options });
const GAMES = "game-service";
const ACCOUNTS = "auth-service";
// Milliseconds without a word after which a connection counts as dead. A stream says something every
// 30 seconds, and the gateway ends any other call after 30.
const SILENCE = 45_000;
const audienceOf = (path) => (/^\/v1\/(games|open-games|finished-games|head-to-head|leaderboard)\b/.test(path) ? GAMES : ACCOUNTS);
const accessTokens = new Map();
// The user they belong to. Another tab may log in as a different user, and all tabs share the cookie.
let userId = null;
const listeners = new Set();
const tabs = new BroadcastChannel("session");

// An error of the API: a google.rpc.Status, with the reason that the code can go by.
export class ApiError extends Error {
  constructor(httpStatus, status) {
    super(status?.message || `HTTP ${httpStatus}`);
    this.httpStatus = httpStatus;
    const detail = (type) => status?.details?.find((each) => each["@type"].endsWith(`google.rpc.${type}`));
    this.reason = detail("ErrorInfo")?.reason ?? "";
    this.fields = detail("BadRequest")?.fieldViolations ?? [];
    // Seconds after which it makes sense to try again.
    this.retrySeconds = parseFloat(detail("RetryInfo")?.retryDelay ?? "0");
  }
}

// Calls the listener with the user, or with null and the reason when nobody is logged in any more.
export const onChange = (listener) => listeners.add(listener);

// Returns whether the user is logged in: a deployment may want the address confirmed first.
export async function register(account) {
  const registered = await post("/v1/auth/register", { ...account, passwordConfirmation: account.password, audience: GAMES });
  if (registered.tokens) begin(registered);
  return Boolean(registered.tokens);
}

// A call about the address of an account, as the user who is logged in, or with an identifier and a password: whoever has
// not confirmed the address may be unable to log in.
export const callAboutEmail = (action, body) =>
  userId ? call("POST", `/v1/me/email${action}`, body) : post(`/v1/me/email${action}`, body);

// A new password replaces the old one. A password that an administrator has set is good for nothing else.
export async function login(identifier, password, newPassword) {
  // What this device got at an earlier login: it replaces that session, and nobody else's wrong guesses lock it out.
  const deviceToken = localStorage.getItem(`device ${identifier}`) ?? "";
  const change = newPassword ? { newPassword, newPasswordConfirmation: newPassword } : {};
  return begin(await post("/v1/auth/login", { identifier, password, deviceToken, audience: GAMES, ...change }), identifier);
}

// The guest whom this browser can log in: the login and the credential, or null.
export const knownGuest = () => JSON.parse(localStorage.getItem("guest") ?? "null");

// Logs the known guest in, or registers a new one.
export async function playAsGuest() {
  const known = knownGuest();
  if (known) {
    const deviceToken = localStorage.getItem(`device ${known.login}`) ?? "";
    try {
      return begin(await post("/v1/auth/login-guest", { guestCredential: known.credential, deviceToken, audience: GAMES }));
    } catch (error) {
      if (error.reason !== "CREDENTIALS_INVALID") throw error;
      // Idle for too long, or upgraded elsewhere.
      localStorage.removeItem("guest");
    }
  }
  const registered = await post("/v1/auth/register-guest", { audience: GAMES });
  const guest = { login: registered.user.login, credential: registered.guestCredential };
  localStorage.setItem("guest", JSON.stringify(guest));
  return begin(registered);
}

// Turns the guest who is logged in into a user with a password.
export async function upgrade(account) {
  const body = { ...account, passwordConfirmation: account.password };
  const { user, tokens } = await replaceTokens("/v1/me:upgrade", body);
  localStorage.removeItem(`device ${knownGuest()?.login}`);
  localStorage.removeItem("guest");
  accessTokens.clear();
  accessTokens.set(ACCOUNTS, tokens.accessToken);
  tell(user);
}

// Asks for a mail with a code. The answer does not tell whether there is such a user.
export async function requestPasswordReset(identifier) {
  const deviceToken = localStorage.getItem(`device ${identifier}`) ?? "";
  await post("/v1/auth/request-password-reset", { identifier, deviceToken });
}

// Replaces a forgotten password with the code from the mail, and logs in.
export async function resetPassword({ identifier, code, newPassword }) {
  const reset = { identifier, code, newPassword, newPasswordConfirmation: newPassword, audience: GAMES };
  return begin(await post("/v1/auth/reset-password", reset), identifier);
}

// After a reload: the cookie says who is logged in.
export async function restore() {
  // While the server was out of reach, somebody may have logged in by the form.
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

// Rejects where the server could not be told: the session lives on then, and so does its cookie.
export async function logout() {
  await post("/v1/auth/logout", {}).catch((error) => {
    if (!isOver(error)) throw error;
  });
  tabs.postMessage(null);
  end("You are logged out.");
}

// Whether an error says that there is no session: anything else may be tried again, also a token that is not valid yet by a wrong clock.
const isOver = (error) =>
  error instanceof ApiError && [400, 401].includes(error.httpStatus) && error.reason !== "TOKEN_NOT_YET_VALID";
export const wait = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

// Calls the API as the user who is logged in.
export async function call(method, path, body) {
  const patience = new Patience();
  try {
    return await (await send(method, path, body, patience.signal)).json();
  } finally {
    patience.end();
  }
}

// Gives each message of a stream to the listener until it ends. EventSource cannot send an access token, fetch can.
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

// Gives a request up that hears nothing for too long.
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
  const used = accessTokens.get(audience);
  const attempt = () =>
    request(path, {
      method,
      signal,
      headers: { authorization: `Bearer ${accessTokens.get(audience)}`, "content-type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  let response = await attempt();
  if (response.status === 401) {
    const error = await errorOf(response);
    if (!isOver(error)) throw error;
    // The token is too old, was issued before the roles changed, or by a version that did not know of audiences: the
    // session lives. Anything else says that it is over.
    if (!["TOKEN_EXPIRED", "TOKEN_STALE", "AUDIENCE_REQUIRED"].includes(error.reason)) {
      // A late answer says nothing of whoever has logged in since.
      if (accessTokens.get(audience) === used) end("You were logged out.");
      throw error;
    }
    await renew(audience, used);
    if (userId !== user) throw error;
    response = await attempt();
  }
  if (!response.ok) throw await errorOf(response);
  return response;
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
        // Busy, out of reach, or the answer was lost: the same again, with the same id.
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

// Makes a call that gives the session a new refresh token, in the cookie. No rotation may come in between.
async function replaceTokens(path, body) {
  if (!accessTokens.has(ACCOUNTS)) await renew(ACCOUNTS);
  const used = accessTokens.get(ACCOUNTS);
  const attempt = () =>
    navigator.locks.request("rotate", () => post(path, body, { authorization: `Bearer ${accessTokens.get(ACCOUNTS)}` }));
  try {
    return await attempt();
  } catch (error) {
    if (!["TOKEN_EXPIRED", "TOKEN_STALE"].includes(error.reason)) throw error;
    await renew(ACCOUNTS, used);
    return attempt();
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

// Another tab has logged out, or somebody in.
tabs.onmessage = ({ data }) => {
  if (!data) end("You are logged out.");
  else if (userId && data !== userId) end("Another user has logged in in this browser.");
};
