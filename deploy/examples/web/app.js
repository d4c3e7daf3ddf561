// The page: its sections, forms and buttons. session.js holds the logged-in user and the tokens.

import {
  ApiError, beginEnrolment, call, callAboutEmail, changePassword, completeLogin, deleteAccount, forgetGuest, knownGuest, login, logout,
  logoutEverywhere, onChange, onStepUp, playAsGuest, register, requestPasswordReset, resetPassword, restore, upgrade, wait, watch,
} from "./session.js";

const LINES = [[0, 1, 2], [3, 4, 5], [6, 7, 8], [0, 3, 6], [1, 4, 7], [2, 5, 8], [0, 4, 8], [2, 4, 6]];
// Milliseconds between two polls. The lobby has no stream, so the page polls: often while its user is
// active, seldom otherwise, and in the background only while an opponent is to move.
const BUSY = 800;
const IDLE = 5_000;
const HIDDEN = 10_000;
// Milliseconds for which the user counts as active after moving the mouse or pressing a key.
const ATTENTION = 15_000;
// Milliseconds between two reads of the leaderboard, which games of others change too.
const STANDINGS = 60_000;
const UNREACHABLE = "The server cannot be reached.";
// Advice if the link that undoes a change of the address does not work.
const LINK_INVALID = "This link is wrong, was used already, or is older than 72 hours. If this is the address of your account again, choose a new " +
  "password with “Forgot your password?”. Otherwise ask the operators of this site for help.";
const LOG_IN_FIRST = "This account has a second factor. Log in with it first, and then open the link once more.";
// HTTP statuses with which the gateway reports that a service is out of reach.
const OUTAGES = [502, 503, 504];
// The page's messages for some errors of the API, by their reason.
const WORDS = {
  CODE_INVALID: "The code is wrong, has expired or was used already. Ask for a new one.",
  EMAIL_CODE_INVALID: "The code is wrong, has expired or was used already. Ask for a new one.",
  GUESTS_NOT_ADMITTED: "Guests cannot play here. Create an account.",
  EMAIL_NOT_VERIFIED: "Confirm your e-mail address first, with the code from the mail.",
  CREDENTIALS_INVALID: "The login or the password is wrong.",
  CURRENT_PASSWORD_WRONG: "The current password is wrong.",
  GAME_NOT_FOUND: "This game is no longer open: another player has joined it, or it was cancelled.",
  GAME_TAKEN: "Another player was quicker and has joined this game.",
  PASSWORD_EXPIRED: "Your temporary password has expired. Ask an administrator for a new one, or choose a new password by mail.",
  STEP_UP_REQUIRED: "This needs another proof that it is you.",
  SECOND_FACTOR_WRONG: "The code is wrong or was used already. Enter the one that the app shows now.",
  LOGIN_CHALLENGE_INVALID: "This login took too long. Log in again.",
  PASSWORD_CHANGE_REQUIRED: "Your password is a temporary one. Choose a new password to log in.",
};

const $ = (id) => document.getElementById(id);
let me = null;
let game = null;
let watching = null;

function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// Writes text that screen readers announce. Writing the same text again would repeat the announcement.
function write(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

let saysOutage = false;

function say(text, isError = false) {
  saysOutage = false;
  write("message", text);
  $("message").classList.toggle("error", isError);
}

function sayWhetherOffline(isOffline) {
  const isBack = !isOffline && $("offline").textContent;
  write("offline", isOffline ? `${UNREACHABLE} Trying again …` : "");
  if (isBack && saysOutage) say("");
}

const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1).replace(/\.$/, "")}.`;

function explain(error) {
  if (error.reason === "TOO_MANY_MAILS") return `Too many mails. Try again in ${duration(error.retrySeconds)}.`;
  if (error.reason === "TOO_MANY_ATTEMPTS") return `Too many attempts. Try again in ${duration(error.retrySeconds)}.`;
  return WORDS[error.reason] ?? sentence(error.message);
}

function duration(seconds) {
  const [count, unit] =
    seconds < 100 ? [Math.max(1, Math.ceil(seconds)), "second"] : [Math.ceil(seconds / 60), "minute"];
  return `${count} ${unit}${count === 1 ? "" : "s"}`;
}

const underWay = new Set();

// Runs the action of a form or a button, unless it is still running, and shows errors.
async function attempt(owner, action) {
  if (underWay.has(owner)) return;
  underWay.add(owner);
  say("");
  try {
    await action();
    // Problems in other forms are from before.
    document.querySelectorAll("[aria-invalid]").forEach(forgive);
  } catch (error) {
    if (!(error instanceof ApiError) || OUTAGES.includes(error.httpStatus)) {
      console.error(error);
      say(UNREACHABLE, true);
      saysOutage = true;
    } else if (owner instanceof HTMLFormElement && error.fields.length) {
      pointOut(owner, error.fields);
    } else if (me || owner instanceof HTMLFormElement || owner === $("entry")) {
      // Otherwise the error ended the session, which is already shown.
      say(explain(error), true);
    }
  } finally {
    underWay.delete(owner);
  }
}

// Shows the error of each field below it, under the name in its label.
function pointOut(form, fields) {
  for (const { field, description } of fields) {
    // The page has one password field, so show confirmation errors there.
    const input = form.elements[field.replace(/Confirmation$/, "")];
    if (!input) say(sentence(`${field} ${description}`), true);
    else if (!input.ariaInvalid) {
      input.ariaInvalid = "true";
      $(`${input.id}-problem`).textContent = sentence(`${input.labels[0].textContent} ${description}`);
    }
  }
  form.querySelector("[aria-invalid]")?.focus();
}

function forgive(input) {
  input.ariaInvalid = null;
  $(`${input.id}-problem`).textContent = "";
}

const SECTIONS = ["entry", "second-factor", "recovery", "confirmation", "reversal", "lobby", "account", "game"];
// Sections whose heading is in the title of the page.
const TITLED = ["second-factor", "recovery", "confirmation", "reversal", "account"];
// Whether the user is to move in a game.
let isTurn = false;

// Shows one of the sections. The focus moves to its heading, because it was in a section that is now hidden.
function show(section) {
  const before = SECTIONS.find((id) => !$(id).hidden);
  for (const each of SECTIONS) $(each).hidden = each !== section;
  $("back-to-entry").textContent = me ? "Back to the games" : "Back to the login";
  entitle(isTurn);
  if (before && before !== section) $(`${section}-title`).focus();
}

function entitle(isMine) {
  isTurn = isMine;
  const section = TITLED.find((id) => !$(id).hidden);
  const text = isTurn ? "Your turn" : section ? $(`${section}-title`).textContent : "";
  document.title = text ? `${text} – Tic-tac-toe` : "Tic-tac-toe";
}

// Leaves a form: for the games, or for the login if no user is logged in.
function goBack() {
  say("");
  if (me) return leave();
  show("entry");
  // Another tab may have logged in.
  restore();
}

onChange((user, reason) => {
  // Remove what the previous user has typed. Whoever resets a password goes on with that.
  if (me && me.userId !== user?.userId) {
    $("step-up").close("");
    for (const form of document.forms) if (!form.closest("#recovery")) form.reset();
  }
  me = user;
  $("who").hidden = !user;
  $("login-name").textContent = user?.login ?? "";
  $("keep").hidden = !user?.isGuest;
  offerGuest();
  // Remove what was about the previous user.
  forgetPending();
  hideSecret("factor");
  hideRecoveryCodes();
  for (const id of ["my-games", "open-games", "history", "leaderboard", "sessions", "factors", "account-email", "invited-login"]) {
    $(id).replaceChildren();
    delete $(id).dataset.key;
  }
  say(reason);
  if (user) return leave();
  watching?.abort();
  game = null;
  sayWhetherOffline(false);
  isTurn = false;
  show($("recovery").hidden ? "entry" : "recovery");
});

// --- Logging in ---

const ACTIONS = {
  "login-form": logIn,
  "register-form": signUp,
  "upgrade-form": keepAccount,
  "request-form": requestCode,
  "reset-form": choosePassword,
  "enrol-form": enrol,
  "code-form": enterCode,
  "factor-form": addFactor,
  "confirm-form": confirmAddress,
  "email-form": changeAddress,
  "password-form": replacePassword,
  "delete-form": removeAccount,
  "step-up-form": ({ proof }) => $("step-up").close(proof),
};

for (const form of Object.keys(ACTIONS).map($)) {
  const inputs = [...form.elements].filter(({ name }) => name);
  const passwords = inputs.filter(({ type }) => type === "password");
  const reveal = form.querySelector("[type=checkbox]");
  for (const input of inputs) input.oninput = () => forgive(input);
  if (reveal) reveal.onchange = () => passwords.forEach((each) => { each.type = reveal.checked ? "text" : "password"; });
  form.onreset = () => {
    inputs.forEach(forgive);
    passwords.forEach((each) => { each.type = "password"; });
    if (form.id === "login-form") $("change-password").hidden = true;
  };
  form.onsubmit = (event) => {
    event.preventDefault();
    attempt(form, async () => {
      inputs.forEach(forgive);
      const isDone = await ACTIONS[form.id](Object.fromEntries(new FormData(form)));
      if (isDone !== false) form.reset();
    });
  };
}

async function signUp(account) {
  const { isLoggedIn, challenge } = await register(account);
  if (!meet(challenge, account.login) && !isLoggedIn) confirmFirst(account);
}

// Asks a new user, who must confirm the address before the first login, for the code from the mail.
function confirmFirst({ login: identifier, password }) {
  openConfirmation({ identifier, password });
  say("A mail with a code is on its way. Confirm your address with it, then you are logged in.");
}

// Returns false if the form asks for a new password.
async function logIn({ identifier, password, newPassword }) {
  const changes = !$("change-password").hidden;
  try {
    meet(await login(identifier, password, changes ? newPassword : ""), identifier);
  } catch (error) {
    if (error.reason === "EMAIL_NOT_VERIFIED") {
      openConfirmation({ identifier, password });
      return say(explain(error));
    }
    if (changes && error.reason === "PASSWORD_CHANGE_REQUIRED") error.fields = [{ field: "newPassword", description: "is required" }];
    if (changes || error.reason !== "PASSWORD_CHANGE_REQUIRED") throw error;
    askForNewPassword(identifier, password);
    return false;
  }
}

// Asks for a new password in place of a temporary one.
function askForNewPassword(identifier, password) {
  show("entry");
  $("identifier").value = identifier;
  $("password").value = password;
  $("change-password").hidden = false;
  $("new-password").focus();
  say(WORDS.PASSWORD_CHANGE_REQUIRED);
}

// --- The second factor ---

// The login that waits for a code: its challenge, and what the user typed as login.
let pending = null;
// Id of the app that waits for its first code.
let newFactor = null;

// Asks for the second factor if the login needs one. Returns whether it does.
function meet(challenge, identifier) {
  if (!challenge) return false;
  pending = { challenge, identifier };
  hideSecret("enrol");
  $("enrol-form").hidden = !challenge.enrol;
  $("enrol-mail").hidden = !challenge.emailCodeRequired;
  $("code-form").hidden = challenge.enrol;
  $("totp-code-label").textContent = challenge.enrol ? "Code that the app shows" : "Code of the app, or a recovery code";
  show("second-factor");
  say(challenge.emailCodeRequired ? "A mail with a code is on its way." : "");
  if (!challenge.enrol) $("totp-code").focus();
  else if (challenge.emailCodeRequired) $("enrol-code").focus();
  return true;
}

async function enrol({ emailCode }) {
  const { secret, otpauthUri } = await orAgain(beginEnrolment(pending.challenge, emailCode));
  showSecret("enrol", secret, otpauthUri);
  $("enrol-form").hidden = true;
  $("code-form").hidden = false;
  $("totp-code").focus();
}

async function enterCode({ code }) {
  const codes = await orAgain(completeLogin(pending.challenge, code, pending.identifier));
  forgetPending();
  if (codes.length) {
    await openAccount();
    showRecoveryCodes(codes);
  }
}

// Goes back to the login if the challenge is over.
async function orAgain(call) {
  try {
    return await call;
  } catch (error) {
    if (error.reason === "LOGIN_CHALLENGE_INVALID") leavePending();
    throw error;
  }
}

function forgetPending() {
  pending = null;
  hideSecret("enrol");
  for (const id of ["enrol-form", "code-form"]) $(id).reset();
}

function leavePending() {
  forgetPending();
  show("entry");
}

$("leave-second-factor").onclick = () => {
  leavePending();
  say("");
};

function showSecret(name, secret, uri) {
  $(`${name}-secret-text`).textContent = secret.match(/.{1,4}/g).join(" ");
  $(`${name}-secret-link`).href = uri;
  $(name === "enrol" ? "enrol-secret" : "factor-form").hidden = false;
}

function hideSecret(name) {
  $(name === "enrol" ? "enrol-secret" : "factor-form").hidden = true;
  $(`${name}-secret-text`).textContent = "";
  $(`${name}-secret-link`).removeAttribute("href");
}

function showRecoveryCodes(codes) {
  $("recovery-codes").hidden = false;
  $("recovery-code-list").replaceChildren(...codes.map((code) => element("li", {}, element("code", { textContent: code }))));
  $("recovery-codes-title").focus();
}

function hideRecoveryCodes() {
  $("recovery-codes").hidden = true;
  $("recovery-code-list").replaceChildren();
}

const readFactors = () => call("GET", "/v1/me/second-factors");

function showFactors({ factors, recoveryCodesLeft }) {
  $("factors").replaceChildren(...factors.map(({ factorId, displayName, createTime }) => {
    const name = displayName || "Authenticator app";
    return element("li", {}, about(name, "added ", time(createTime)), button("Remove", ` ${name}`, () => removeFactor(factorId)));
  }));
  $("factor-count").textContent = factors.length
    ? `A login needs a code of an app. ${recoveryCodesLeft} recovery codes are left.`
    : "A login needs only your password.";
  $("renew-codes").hidden = !factors.length;
}

async function removeFactor(id) {
  if (!confirm("Remove this app? Its codes no longer work.")) return;
  await call("DELETE", `/v1/me/second-factors/${id}`);
  hideRecoveryCodes();
  showFactors(await readFactors());
  $("factors-title").focus();
  say("The app is removed.");
}

$("start-factor").onclick = () => attempt($("start-factor"), async () => {
  const { factor, secret, otpauthUri } = await call("POST", "/v1/me/second-factors", {});
  newFactor = factor.factorId;
  hideRecoveryCodes();
  showSecret("factor", secret, otpauthUri);
  $("factor-code").focus();
});

async function addFactor({ totpCode }) {
  const { recoveryCodes } = await call("POST", `/v1/me/second-factors/${newFactor}:confirm`, { totpCode });
  hideSecret("factor");
  showFactors(await readFactors());
  $("factors-title").focus();
  say("The app is added.");
  if (recoveryCodes.length) showRecoveryCodes(recoveryCodes);
}

$("renew-codes").onclick = () => attempt($("renew-codes"), async () => {
  const { recoveryCodes } = await call("POST", "/v1/me/recovery-codes:renew", {});
  showFactors(await readFactors());
  showRecoveryCodes(recoveryCodes);
});

// Asks for the password or a code in a dialog, because the call that needs a more recent login goes on afterwards.
onStepUp((needsCode) => new Promise((resolve) => {
  const words = needsCode
    ? ["Enter a code", "To go on, enter the code that your authenticator app shows, or a recovery code.", "Code"]
    : ["Enter your password", "You logged in some time ago. To go on, enter your password again.", "Password"];
  ["step-up-title", "step-up-why", "step-up-label"].forEach((id, index) => { $(id).textContent = words[index]; });
  $("step-up-proof").type = needsCode ? "text" : "password";
  $("step-up-proof").autocomplete = needsCode ? "one-time-code" : "current-password";
  $("step-up").returnValue = "";
  $("step-up").onclose = () => {
    const proof = $("step-up").returnValue;
    $("step-up").returnValue = "";
    $("step-up-form").reset();
    resolve(proof || null);
  };
  $("step-up").showModal();
}));
$("leave-step-up").onclick = () => $("step-up").close("");

// --- The account ---

// True if the code is for a new address instead of the present one.
let isNewAddress = false;
// Whether the form asks for login and password: no user is logged in, or another one than the link is for.
let asksWho = false;
// Parameters of a link that undoes a change of the address.
let reversal = null;

function openConfirmation({ identifier = "", user_id: userId = "", password = "", code = "", isNew = false }) {
  isNewAddress = isNew;
  asksWho = !me || (userId ? userId !== me.userId : Boolean(identifier && identifier !== me.login));
  say(me && asksWho ? `You are logged in as ${me.login}. This link is for ${identifier}.` : "");
  show("confirmation");
  $("confirm-credentials").hidden = !asksWho;
  $("confirm-again").hidden = isNew;
  for (const [id, value] of [["identifier", identifier], ["password", password], ["code", code]]) $(`confirm-${id}`).value = value;
  [...$("confirm-form").elements].find((input) => input.name && !input.value && (asksWho || input.id === "confirm-code"))?.focus();
}

const credentials = ({ identifier, password }) => (asksWho ? { identifier, password } : {});

async function confirmAddress({ identifier, password, code }) {
  try {
    const { user } = await callAboutEmail(isNewAddress ? "/confirm" : "/verify", { code, ...credentials({ identifier, password }) });
    if (!asksWho) await openAccount(user);
    else if (meet(await login(identifier, password), identifier)) return;
  } catch (error) {
    if (asksWho && error.reason === "STEP_UP_REQUIRED") return say(LOG_IN_FIRST, true);
    if (error.reason !== "PASSWORD_CHANGE_REQUIRED") throw error;
    return askForNewPassword(identifier, password);
  }
  say("Your e-mail address is confirmed.");
}

async function changeAddress({ email, currentPassword }) {
  await callAboutEmail("", { email, currentPassword });
  openConfirmation({ isNew: true });
  say(`A mail with a code is on its way to ${email}.`);
}

async function openAccount(user) {
  const { userId } = me;
  const [known, listed, factors] = await Promise.all([
    user ?? call("GET", "/v1/me").then((read) => read.user), readSessions(), readFactors(),
  ]);
  // Meanwhile the user may have logged out in another tab.
  if (me?.userId !== userId) return;
  me = known;
  // A guest has no address and no password that could be changed, and no second factor.
  for (const id of ["credentials", "delete-credentials", "second-factors"]) $(id).hidden = me.isGuest;
  hideSecret("factor");
  hideRecoveryCodes();
  $("account-email").textContent = `${me.email}, ${me.emailVerifyTime ? "confirmed" : "not confirmed"}`;
  $("confirm-present").hidden = Boolean(me.emailVerifyTime);
  showSessions(listed);
  showFactors(factors);
  show("account");
}

async function replacePassword(passwords) {
  await changePassword(passwords);
  showSessions(await readSessions());
  say("Your password is changed. All other devices are logged out.");
}

const readSessions = async () => (await call("GET", "/v1/me/sessions?pageSize=100")).sessions;

function showSessions(sessions) {
  $("sessions").replaceChildren(...sessions.map(({ sessionId, userAgent, ipAddress, createTime, lastUseTime, isCurrent }) => {
    const device = deviceOf(userAgent);
    const details = [ipAddress && `${ipAddress} · `, "logged in ", time(createTime), " · last used ", time(lastUseTime)];
    return element("li", {}, about(device, ...details), isCurrent
      ? element("strong", { textContent: "This device" })
      : button("End", ` the session of ${device}`, () => endSession(sessionId)));
  }));
}

async function endSession(id) {
  await call("DELETE", `/v1/me/sessions/${id}`);
  showSessions(await readSessions());
  $("sessions-title").focus();
  say("That device is logged out.");
}

// Names the browser and the system of a user agent.
function deviceOf(userAgent) {
  const first = (names) => names.find((name) => userAgent.includes(name)) ?? "";
  const browser = first(["Edg", "OPR", "Firefox", "Chrome", "Safari"]);
  const system = first(["Android", "iPhone", "iPad", "Windows", "Mac OS", "Linux"]);
  const names = { Edg: "Edge", OPR: "Opera", "Mac OS": "macOS" };
  if (browser && system) return `${names[browser] ?? browser} on ${names[system] ?? system}`;
  return userAgent.slice(0, 60) || "Unknown device";
}

// Downloads all that auth-service knows of the user. It comes in pages, of which only the first has the profile.
async function exportData() {
  let data = null;
  let pageToken = "";
  do {
    const { nextPageToken, ...page } = await call("GET", `/v1/me:export?pageToken=${encodeURIComponent(pageToken)}`);
    data ??= { ...page, sessions: [], auditEvents: [] };
    data.sessions.push(...page.sessions);
    data.auditEvents.push(...page.auditEvents);
    pageToken = nextPageToken;
  } while (pageToken);
  const url = URL.createObjectURL(new Blob([JSON.stringify(data, null, 2)], { type: "application/json" }));
  element("a", { href: url, download: `${me.login}.json` }).click();
  // The browser reads the data after the click.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
  say(`Your data is in the file ${me.login}.json.`);
}

async function removeAccount({ currentPassword }) {
  if (!confirm(`Delete the account ${me.login} for good? This cannot be undone.`)) return false;
  watching?.abort();
  await deleteAccount(me, currentPassword).finally(resume);
}

$("open-account").onclick = () => attempt($("open-account"), () => openAccount());
$("export").onclick = () => attempt($("export"), exportData);
$("log-out-everywhere").onclick = () => attempt($("log-out-everywhere"), async () => {
  if (!confirm(me.isGuest ? LOGOUT_OF_GUEST : "Log out of every device, including this one?")) return;
  watching?.abort();
  await logoutEverywhere().finally(resume);
});
$("confirm-present").onclick = () => attempt($("confirm-present"), async () => {
  await callAboutEmail("/request-verification", {});
  openConfirmation({});
  say("A mail with a code is on its way.");
});
$("confirm-again").onclick = () => attempt($("confirm-form"), async () => {
  await callAboutEmail("/request-verification", credentials(Object.fromEntries(new FormData($("confirm-form")))));
  say("A mail with a code is on its way.");
});
$("revert").onclick = () => attempt($("reversal-form"), async () => {
  try {
    await callAboutEmail("/revert", reversal);
  } catch (error) {
    if (error.reason !== "CODE_INVALID") throw error;
    // There is no new link to ask for.
    return say(LINK_INVALID, true);
  }
  // The session of this browser has ended too.
  if (me?.userId === reversal.userId) await logout();
  recover("reset-form");
  say("The change is undone: this is the address of your account again. A mail with a code is on its way. Choose a new password with it.");
});
for (const id of ["leave-account", "leave-confirmation", "leave-reversal", "back-to-entry"]) $(id).onclick = goBack;

// --- Guests ---

// Offers to play as the known guest, or as a new one.
function offerGuest() {
  $("play-as-guest").textContent = knownGuest() ? `Continue as ${knownGuest().login}` : "Play as a guest";
  $("forget-guest").hidden = true;
}

$("play-as-guest").onclick = () => attempt($("entry"), async () => {
  try {
    await playAsGuest();
  } catch (error) {
    if (error.reason !== "CREDENTIALS_INVALID") throw error;
    // The user decides, because a deactivated guest may be reactivated.
    $("forget-guest").hidden = false;
    say(`${knownGuest().login} cannot log in. The account was kept with a login and a password, was deleted after a long pause, ` +
      "or is deactivated. Log in with the password, or forget this guest to play as a new one.", true);
  }
});
$("forget-guest").onclick = () => {
  const { login: guest } = knownGuest();
  if (!confirm(`Forget ${guest}? This browser can then never log in as ${guest} again.`)) return;
  forgetGuest();
  offerGuest();
  say(`${guest} is forgotten. You can play as a new guest.`);
  $("play-as-guest").focus();
};

async function keepAccount(account) {
  if (!(await upgrade(account))) return logInUpgraded(account);
  $("keep").open = false;
  $("lobby-title").focus();
  say(`The account is yours. Your login is ${me.login} from now on.`);
}

// Logs an upgraded user in who has no session any more: the address must be confirmed, or a second factor added.
async function logInUpgraded(account) {
  try {
    meet(await login(account.login, account.password), account.login);
  } catch (error) {
    if (error.reason !== "EMAIL_NOT_VERIFIED") throw error;
    confirmFirst(account);
  }
}

// --- A forgotten password ---

// Whether the user chooses a first password.
let isInvited = false;

// Shows one of the two steps: asking for a code, or using it. An invited user chooses a first password in the second.
function recover(step, identifier = "", code = "", isInvitation = false) {
  isInvited = isInvitation;
  say(me && identifier && identifier !== me.login ? `You are logged in as ${me.login}. This link is for ${identifier}.` : "");
  $("recovery-title").textContent = isInvited ? "Choose a password" : code ? "Choose a new password" : "Forgot your password?";
  $("reset-password-label").textContent = isInvited ? "Password" : "New password";
  $("set-password").textContent = isInvited ? "Choose this password" : "Set the new password";
  $("invited").hidden = !isInvited || !identifier;
  $("invited-login").textContent = identifier;
  show("recovery");
  for (const id of ["request-form", "reset-form"]) $(id).hidden = id !== step;
  $("request-identifier").value = identifier;
  $("reset-identifier").value = identifier;
  $("reset-code").value = code;
  [...$(step).elements].find((input) => input.name && !input.value)?.focus();
}

async function requestCode({ identifier }) {
  await requestPasswordReset(identifier);
  $("request-form").reset();
  recover("reset-form", identifier);
  say("If there is such an account, a mail with a code is on its way.");
}

$("forgot").onclick = () => recover("request-form", $("identifier").value);
$("have-code").onclick = () => recover("reset-form", $("request-identifier").value);
$("another-code").onclick = () => recover("request-form", $("reset-identifier").value);

async function choosePassword(values) {
  if (meet(await resetPassword(values), values.identifier)) return say("Your new password is set.");
  say(isInvited
    ? `Welcome, ${me.login}. Your password is set, and you are logged in.`
    : `Your new password is set, and you are logged in as ${me.login}. All other devices are logged out.`);
}

// Links from mails, by action. The parameters are behind the #, so the browser sends them to no server, and they are
// removed from the history. Nothing happens before the user presses a button.
const LINKS = {
  "reset-password": ({ identifier, code }) => recover("reset-form", identifier, code),
  "accept-invitation": ({ identifier, code }) => recover("reset-form", identifier, code, true),
  "verify-email": openConfirmation,
  "confirm-email": (values) => openConfirmation({ ...values, isNew: true }),
  "revert-email": ({ user_id: userId, code }) => {
    reversal = { userId, code };
    say("");
    show("reversal");
  },
};

// Returns a function that shows the section of the link, or null if the address has no link.
function takeLink() {
  const [action, query] = location.hash.slice(1).split("?");
  if (!Object.hasOwn(LINKS, action)) return null;
  history.replaceState(null, "", location.pathname);
  return () => LINKS[action](Object.fromEntries(new URLSearchParams(query)));
}

addEventListener("hashchange", () => takeLink()?.());

// A new password must not be sent for another account.
$("identifier").addEventListener("input", () => {
  $("change-password").hidden = true;
  $("new-password").value = "";
});

const LOGOUT_OF_GUEST =
  "You are a guest without a password. Only this browser can log you in again. If its data is cleared, or if you stay away for too long, " +
  "you lose this account and its games. To prevent that, cancel, and choose a login and a password under “Keep this account”. Log out anyway?";

$("logout").onclick = () => attempt($("logout"), async () => {
  if (me?.isGuest && !confirm(LOGOUT_OF_GUEST)) return;
  // End the stream first. Otherwise the logout would end it with an error, as a logout elsewhere does.
  watching?.abort();
  await logout().finally(resume);
});
$("leave").onclick = () => {
  say("");
  leave();
};
$("play-computer").onclick = () => attempt($("play-computer"), () => create("OPPONENT_COMPUTER"));
$("open-game").onclick = () => attempt($("open-game"), () => create("OPPONENT_PLAYER"));
$("again").onclick = () => attempt($("again"), () => create("OPPONENT_COMPUTER"));
$("give-up").onclick = () => {
  const verb = game.state === "GAME_STATE_WAITING_FOR_PLAYER" ? "cancel" : "resign";
  const effect = game.moves.length < 2 ? "It will not count." : "You will lose it.";
  if (verb === "resign" && !confirm(`Give up this game? ${effect}`)) return;
  attempt($("give-up"), async () => update((await call("POST", `/v1/games/${game.gameId}:${verb}`, {})).game));
};

async function create(opponent) {
  // Because of the id, sending the request twice creates one game.
  play((await call("POST", "/v1/games", { opponent, requestId: crypto.randomUUID() })).game);
}

// --- A game ---

function play(opened) {
  $("last-move").textContent = "";
  show("game");
  draw(opened);
  $("game-title").focus();
  follow(opened.gameId);
}

// Watches a game to its end. A broken stream is opened again; each message holds the whole game, so
// nothing is missed.
async function follow(id) {
  watching?.abort();
  watching = new AbortController();
  const { signal } = watching;
  for (let began = 0; !signal.aborted && me && !isOver(game); ) {
    // Retry at once, because a logout may have ended the stream, but not in a tight loop.
    if (Date.now() - began < 1000) await wait(400 + 200 * Math.random());
    if (signal.aborted) return;
    began = Date.now();
    try {
      await watch(`/v1/games/${id}:watch`, ({ game: next }) => {
        if (signal.aborted) return;
        sayWhetherOffline(false);
        update(next);
      }, signal);
    } catch (error) {
      if (signal.aborted || !me) return;
      if (error instanceof ApiError && error.httpStatus < 500 && error.httpStatus !== 429) {
        leave();
        return say(explain(error), true);
      }
      sayWhetherOffline(true);
    }
  }
}

// A page in the background closes its stream: over HTTP/1.1 each takes one of the browser's six connections.
document.onvisibilitychange = () => (document.hidden ? watching?.abort() : resume());

function resume() {
  if (me && game && !isOver(game)) follow(game.gameId);
}

const isOver = ({ state }) => !["GAME_STATE_WAITING_FOR_PLAYER", "GAME_STATE_TURN"].includes(state);
const isMyTurn = ({ state, turnUserId }) => state === "GAME_STATE_TURN" && turnUserId === me.userId;
const markOf = ({ xUserId }) => (xUserId === me.userId ? "X" : "O");

function opponentOf({ opponent, xUserId, xLogin, oUserId, oLogin }) {
  if (opponent === "OPPONENT_COMPUTER") return "the computer";
  const [id, login] = xUserId === me.userId ? [oUserId, oLogin] : [xUserId, xLogin];
  return login || (id ? "a deleted player" : "");
}

const against = (each) => `You (${markOf(each)}) against ${opponentOf(each) || "whoever joins"}`;

// Draws the game from a response or a message of the stream. Ignores older versions and other games.
function update(next) {
  if (me && game?.gameId === next.gameId && Number(next.version) >= Number(game.version)) draw(next);
}

function draw(next) {
  game = next;
  const line = LINES.find((cells) => ["XXX", "OOO"].includes(cells.map((cell) => game.board[cell]).join(""))) ?? [];
  const last = game.moves.at(-1);
  const isTheirs = last && last.userId !== me.userId;
  const text = outcome();
  $("game-title").textContent = against(game);
  write("turn", text);
  entitle(isMyTurn(game));
  write("last-move", isTheirs ? sentence(`${opponentOf(game)} played ${place(last.cell).toLowerCase()}`) : "");
  for (const [cell, mark] of [...game.board].entries()) {
    Object.assign($("board").children[cell], {
      textContent: mark === "." ? "" : mark,
      ariaLabel: `${place(cell)}: ${mark === "." ? "free" : mark}`,
      // Not disabled, so that the cell can have the focus.
      ariaDisabled: canMove(cell) ? null : "true",
      className: line.includes(cell) ? "line" : cell === last?.cell ? "last" : "",
    });
  }
  $("deadline").replaceChildren(...deadline());
  const hadFocus = document.activeElement === $("give-up");
  $("again").hidden = !isOver(game) || game.opponent !== "OPPONENT_COMPUTER";
  $("give-up").hidden = isOver(game);
  $("give-up").textContent = game.state === "GAME_STATE_WAITING_FOR_PLAYER" ? "Cancel game" : "Give up";
  // The button that had the focus is now hidden.
  if (hadFocus && isOver(game)) ($("again").hidden ? $("game-title") : $("again")).focus();
}

const canMove = (cell) => isMyTurn(game) && game.board[cell] === ".";
const place = (cell) => `Row ${Math.floor(cell / 3) + 1}, column ${(cell % 3) + 1}`;

function outcome() {
  if (game.state === "GAME_STATE_WAITING_FOR_PLAYER") return "Waiting for another player …";
  if (isMyTurn(game)) return "Your turn.";
  if (game.state === "GAME_STATE_TURN") return `Waiting for ${opponentOf(game)} to move …`;
  if (game.state === "GAME_STATE_DRAW") return "A draw.";
  if (game.state === "GAME_STATE_CANCELLED") {
    if (game.endReason === "END_REASON_EXPIRY") return "Nobody joined in time.";
    return game.moves.length ? "The game ended early and does not count." : "The game was cancelled.";
  }
  return `You ${result(game)}${result(game) === "won" ? "!" : "."}${why(game) && ` ${sentence(why(game))}`}`;
}

function result({ state, winnerMark, ...each }) {
  if (state === "GAME_STATE_DRAW") return "drew";
  return winnerMark === `MARK_${markOf(each)}` ? "won" : "lost";
}

function why(each) {
  const loser = result(each) === "won" ? "your opponent" : "you";
  const ways = { END_REASON_RESIGNATION: "gave up", END_REASON_TIMEOUT: "ran out of time" };
  return each.endReason in ways ? `${loser} ${ways[each.endReason]}` : "";
}

function deadline() {
  const uncounted = game.isRanked === false ? " A guest plays, so it does not count on the leaderboard." : "";
  if (isOver(game) || !game.expireTime) return [];
  if (game.state === "GAME_STATE_WAITING_FOR_PLAYER") {
    return ["It stays open until ", time(game.expireTime), ".", uncounted];
  }
  return [isMyTurn(game) ? "You have until " : "They have until ", time(game.expireTime), " to move.", uncounted];
}

function time(text) {
  const format = { day: "numeric", month: "short", hour: "numeric", minute: "2-digit" };
  return element("time", { dateTime: text, textContent: new Date(text).toLocaleString(undefined, format) });
}

async function move(cell) {
  try {
    update((await call("POST", `/v1/games/${game.gameId}:move`, { cell, expectedVersion: game.version })).game);
  } catch (error) {
    // The opponent or another tab was quicker. The stream brings the current state.
    if (error.reason !== "VERSION_MISMATCH") throw error;
  }
}

$("board").append(...Array.from({ length: 9 }, (_, cell) => element("button", {
  type: "button",
  onclick: () => canMove(cell) && attempt($("board"), () => move(cell)),
  onkeydown: (event) => step(event, cell),
})));

// Moves the focus from cell to cell with the arrow keys.
function step(event, cell) {
  const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -3, ArrowDown: 3 }[event.key];
  if (!by) return;
  event.preventDefault();
  $("board").children[cell + by]?.focus();
}

// --- The lists ---

let running = "";
let awaitsOthers = false;
let standingsRead = 0;

function leave() {
  watching?.abort();
  game = null;
  isTurn = false;
  show("lobby");
  // The lists were read before the game and may be out of date, and the server may be out of reach.
  for (const id of ["my-games", "open-games"]) {
    $(id).replaceChildren();
    delete $(id).dataset.key;
  }
  standingsRead = 0;
  look();
}

async function readLobby() {
  const user = me;
  const paths = ["/v1/games?pageSize=100", "/v1/open-games?pageSize=20"];
  const [mine, open] = await Promise.all(paths.map((path) => call("GET", path)));
  // Meanwhile the user may have opened a game, or another user may have logged in.
  if (me !== user || game) return;
  const others = open.games.filter(({ xUserId, oUserId }) => ![xUserId, oUserId].includes(me.userId));
  fill("my-games", mine.games, (each) => [
    miniature(each),
    about(against(each), status(each), " · started ", time(each.createTime)),
    button("Continue", `: ${against(each)}`, () => play(each)),
  ], "You have no unfinished games.");
  fill("open-games", others, (each) => [
    about(each.xLogin || each.oLogin, `You would play ${each.xUserId ? "O" : "X"} · opened `, time(each.createTime)),
    button("Join", ` the game of ${each.xLogin || each.oLogin}`, () => join(each.gameId)),
  ], "No games are open at the moment.");
  entitle(mine.games.some(isMyTurn));
  awaitsOthers = mine.games.length > 0 && !mine.games.some(isMyTurn);
  const ids = mine.games.map(({ gameId }) => gameId).join();
  if (ids !== running || Date.now() - standingsRead > STANDINGS) {
    running = ids;
    await readStandings(user);
  }
}

async function readStandings(user) {
  standingsRead = Date.now();
  const [top, rank, finished] = await Promise.all([
    call("GET", "/v1/leaderboard?limit=10"),
    call("GET", "/v1/leaderboard/rank"),
    call("GET", "/v1/finished-games?pageSize=10"),
  ]);
  if (me !== user) return;
  const entries = top.entries;
  if (rank.entry.rank !== "0" && !entries.some(({ userId }) => userId === me.userId)) entries.push(rank.entry);
  fill("history", finished.games, (each) => [
    miniature(each),
    about(`You ${result(each)} against ${opponentOf(each)}`, time(each.finishTime), why(each) && ` · ${why(each)}`),
  ], "You have not finished a game yet.");
  $("leaderboard").closest("table").hidden = !entries.length;
  $("nobody-ranked").hidden = entries.length > 0;
  $("leaderboard").replaceChildren(...entries.map(({ rank, userId, login, wins, losses, draws }) => {
    const cells = [rank, login || "a deleted player", wins, losses, draws];
    const className = userId === me.userId ? "me" : "";
    return element("tr", { className }, ...cells.map((text) => element("td", { textContent: text })));
  }));
}

const about = (text, ...details) => element("div", {}, text, element("small", {}, ...details));

// Creates a small board, which distinguishes games against the same opponent.
function miniature({ board }) {
  const cells = [...board].map((mark) => element("span", { textContent: mark === "." ? "" : mark }));
  return element("div", { className: "mini", ariaHidden: "true" }, ...cells);
}

function status(each) {
  if (each.state === "GAME_STATE_WAITING_FOR_PLAYER") return "Nobody has joined yet";
  return isMyTurn(each) ? element("strong", { textContent: "Your turn" }) : "Their turn";
}

async function join(id) {
  play((await call("POST", `/v1/games/${id}:join`, {})).game);
}

// Creates a button of a row. Its accessible name is longer than its text, because many rows have the same button.
function button(text, more, action) {
  const made = element("button", { type: "button", textContent: text, ariaLabel: text + more });
  made.onclick = () => attempt(made, async () => action());
  return made;
}

// Fills a list if it has changed. The button that has the focus keeps it.
function fill(id, rows, parts, none) {
  const key = JSON.stringify(rows.map(({ gameId, version }) => [gameId, version]));
  if ($(id).dataset.key === key) return;
  const focused = $(id).contains(document.activeElement) ? document.activeElement.closest("li").id : null;
  const items = rows.map((row) => element("li", { id: `${id}-${row.gameId}` }, ...parts(row)));
  $(id).dataset.key = key;
  $(id).replaceChildren(...(items.length ? items : [element("li", { textContent: none })]));
  if (focused) ($(focused)?.querySelector("button") ?? $("lobby-title")).focus();
}

// --- Polling ---

let lookedAt = 0;
let complaint = "";

// Polls for changes, and so also notices a logout elsewhere.
async function look() {
  lookedAt = Date.now();
  try {
    if (!game) await readLobby();
    else if (isOver(game)) await call("GET", "/v1/me");
    else if (document.hidden) update((await call("GET", `/v1/games/${game.gameId}`)).game);
    else return;
    sayWhetherOffline(false);
    if (complaint && $("message").textContent === complaint) say("");
    complaint = "";
  } catch (error) {
    if (!me) return;
    const isOffline = !(error instanceof ApiError) || error.httpStatus >= 500;
    sayWhetherOffline(isOffline);
    if (isOffline || error.httpStatus === 429) return;
    complaint = explain(error);
    say(complaint, true);
  }
}

let attentiveAt = Date.now();
let looking = false;
for (const type of ["pointermove", "pointerdown", "keydown", "focus"]) {
  addEventListener(type, () => { attentiveAt = Date.now(); });
}

setInterval(async () => {
  if (!me || looking) return;
  const isAwaiting = game ? !isOver(game) && !isMyTurn(game) : awaitsOthers;
  if (document.hidden && !isAwaiting) return;
  const pause = document.hidden ? HIDDEN : Date.now() - attentiveAt < ATTENTION ? BUSY : IDLE;
  if (Date.now() - lookedAt < pause) return;
  looking = true;
  await look();
  looking = false;
}, BUSY / 4);

const showLink = takeLink();
// Shows the link last, because restore() shows the lobby or the login form.
restore().then(() => showLink?.());
