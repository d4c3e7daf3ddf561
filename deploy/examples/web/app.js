// The page: its sections, forms and buttons. session.js holds the logged-in user and the tokens.

import {
  ApiError, beginEnrolment, call, callAboutEmail, completeLogin, knownGuest, login, logout, onChange, onStepUp, playAsGuest, register, requestPasswordReset, resetPassword,
  restore, upgrade, wait, watch,
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
// HTTP statuses with which the gateway reports that a service is out of reach.
const OUTAGES = [502, 503, 504];
// The page's messages for some errors of the API, by their reason.
const WORDS = {
  CODE_INVALID: "The code is wrong, has expired or was used already. Ask for a new one.",
  EMAIL_CODE_INVALID: "The code is wrong, has expired or was used already. Ask for a new one.",
  GUESTS_NOT_ADMITTED: "Guests cannot play here. Create an account.",
  EMAIL_NOT_VERIFIED: "Confirm your e-mail address first, with the code from the mail.",
  CREDENTIALS_INVALID: "The login or the password is wrong.",
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

// Shows one of the sections. The focus moves to its heading, because it was in a section that is now hidden.
function show(section) {
  const before = SECTIONS.find((id) => !$(id).hidden);
  for (const each of SECTIONS) $(each).hidden = each !== section;
  if (before && before !== section) $(`${section}-title`).focus();
}

function entitle(text) {
  document.title = text ? `${text} – Tic-tac-toe` : "Tic-tac-toe";
}

onChange((user, reason) => {
  me = user;
  $("who").hidden = !user;
  $("login-name").textContent = user?.login ?? "";
  $("keep").hidden = !user?.isGuest;
  // A guest has no address that could be confirmed or changed.
  $("open-account").hidden = Boolean(user?.isGuest);
  $("play-as-guest").textContent = knownGuest() ? `Continue as ${knownGuest().login}` : "Play as a guest";
  // Remove the lists of the previous user.
  for (const id of ["my-games", "open-games", "history", "leaderboard"]) {
    $(id).replaceChildren();
    delete $(id).dataset.key;
  }
  say(reason);
  if (user) return leave();
  watching?.abort();
  game = null;
  sayWhetherOffline(false);
  entitle("");
  show($("recovery").hidden ? "entry" : "recovery");
});

// --- Logging in ---

const ACTIONS = {
  "login-form": logIn,
  "register-form": signUp,
  "upgrade-form": keepAccount,
  "request-form": requestCode,
  "reset-form": reset,
  "enrol-form": enrol,
  "code-form": enterCode,
  "factor-form": addFactor,
  "confirm-form": confirmAddress,
  "email-form": changeAddress,
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
    $("change-password").hidden = true;
  };
  form.onsubmit = (event) => {
    event.preventDefault();
    attempt(form, async () => {
      inputs.forEach(forgive);
      await ACTIONS[form.id](Object.fromEntries(new FormData(form)));
      form.reset();
    });
  };
}

async function signUp(account) {
  if (await register(account)) return;
  openConfirmation({ identifier: account.login, password: account.password });
  say("A mail with a code is on its way. Confirm your address with it, then you are logged in.");
}

async function logIn({ identifier, password, newPassword }) {
  const changes = !$("change-password").hidden;
  try {
    meet(await login(identifier, password, changes ? newPassword : ""), identifier);
  } catch (error) {
    if (error.reason === "PASSWORD_CHANGE_REQUIRED") {
      $("change-password").hidden = false;
      $("new-password").focus();
      if (changes) error.fields = [{ field: "newPassword", description: "is required" }];
    }
    if (error.reason === "EMAIL_NOT_VERIFIED") openConfirmation({ identifier, password });
    throw error;
  }
}

// --- The second factor ---

// The login that waits for a code: its challenge, and what the user typed as login.
let pending = null;

// Asks for the second factor if the login needs one.
function meet(challenge, identifier) {
  if (!challenge) return;
  pending = { challenge, identifier };
  $("enrol-form").hidden = !challenge.enrol;
  $("enrol-code").parentElement.hidden = !challenge.emailCodeRequired;
  $("code-form").hidden = challenge.enrol;
  show("second-factor");
  say(challenge.emailCodeRequired ? "A mail with a code is on its way." : "");
  (challenge.enrol ? $("enrol-code") : $("totp-code")).focus();
}

async function enrol({ emailCode }) {
  const { secret, otpauthUri } = await beginEnrolment(pending.challenge, emailCode);
  showSecret("enrol", secret, otpauthUri);
  $("enrol-form").hidden = true;
  $("code-form").hidden = false;
  $("totp-code").focus();
}

async function enterCode({ code }) {
  const codes = await completeLogin(pending.challenge, code, pending.identifier);
  pending = null;
  hideSecret("enrol");
  if (codes.length) {
    await openAccount();
    showRecoveryCodes(codes);
  }
}

async function reset(values) {
  meet(await resetPassword(values), values.identifier);
}

function showSecret(name, secret, uri) {
  $(`${name}-secret`).hidden = false;
  $(`${name}-secret-text`).textContent = secret.match(/.{1,4}/g).join(" ");
  $(`${name}-secret-link`).href = uri;
}

function hideSecret(name) {
  $(`${name}-secret`).hidden = true;
  $(`${name}-secret-text`).textContent = "";
  $(`${name}-secret-link`).removeAttribute("href");
}

function showRecoveryCodes(codes) {
  $("recovery-codes").hidden = false;
  $("recovery-code-list").replaceChildren(...codes.map((code) => element("li", {}, element("code", { textContent: code }))));
  $("recovery-codes-title").focus();
}

// Id of the app that waits for its first code.
let newFactor = null;

async function listFactors() {
  const { factors, recoveryCodesLeft } = await call("GET", "/v1/me/second-factors");
  const item = ({ factorId, displayName }) => {
    const remove = element("button", { type: "button", textContent: "Remove" });
    remove.onclick = () => attempt(remove, async () => {
      await call("DELETE", `/v1/me/second-factors/${factorId}`);
      await listFactors();
      say("The app is removed.");
    });
    return element("li", {}, displayName || "Authenticator app", " ", remove);
  };
  $("factors").replaceChildren(...factors.map(item));
  $("factor-count").textContent = factors.length
    ? `A login needs a code of an app. ${recoveryCodesLeft} recovery codes are left.`
    : "A login needs only your password.";
  $("renew-codes").hidden = !factors.length;
}

$("start-factor").onclick = () => attempt($("factor-form"), async () => {
  const { factor, secret, otpauthUri } = await call("POST", "/v1/me/second-factors", {});
  newFactor = factor.factorId;
  showSecret("factor", secret, otpauthUri);
  $("factor-form").hidden = false;
  $("factor-code").focus();
});

async function addFactor({ totpCode }) {
  const { recoveryCodes } = await call("POST", `/v1/me/second-factors/${newFactor}:confirm`, { totpCode });
  hideSecret("factor");
  $("factor-form").hidden = true;
  await listFactors();
  say("The app is added.");
  if (recoveryCodes.length) showRecoveryCodes(recoveryCodes);
}

$("renew-codes").onclick = () => attempt($("renew-codes"), async () => {
  showRecoveryCodes((await call("POST", "/v1/me/recovery-codes:renew", {})).recoveryCodes);
  await listFactors();
});
$("leave-second-factor").onclick = () => {
  pending = null;
  hideSecret("enrol");
  say("");
  show("entry");
};

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

// --- The e-mail address ---

// True if the code is for a new address instead of the present one.
let isNewAddress = false;
// Whether the form asks for login and password: no user is logged in, or another one than the link is for.
let asksWho = false;
// Parameters of a link that takes a change of the address back.
let reversal = null;

function openConfirmation({ identifier = "", password = "", code = "", isNew = false }) {
  isNewAddress = isNew;
  asksWho = !me || Boolean(identifier && identifier !== me.login);
  show("confirmation");
  if (me && asksWho) say(`You are logged in as ${me.login}. This link is for ${identifier}.`);
  $("confirm-credentials").hidden = !asksWho;
  $("confirm-again").hidden = isNew;
  for (const [id, value] of [["identifier", identifier], ["password", password], ["code", code]]) $(`confirm-${id}`).value = value;
  [...$("confirm-form").elements].find((input) => input.name && !input.value && (asksWho || input.id === "confirm-code"))?.focus();
}

const credentials = ({ identifier, password }) => (asksWho ? { identifier, password } : {});

async function confirmAddress({ identifier, password, code }) {
  const { user } = await callAboutEmail(isNewAddress ? "/confirm" : "/verify", { code, ...credentials({ identifier, password }) });
  if (asksWho) meet(await login(identifier, password), identifier);
  else openAccount(user);
  say("Your e-mail address is confirmed.");
}

async function changeAddress({ email, currentPassword }) {
  await callAboutEmail("", { email, currentPassword });
  openConfirmation({ isNew: true });
  say(`A mail with a code is on its way to ${email}.`);
}

async function openAccount(user) {
  me = user ?? (await call("GET", "/v1/me")).user;
  show("account");
  $("account-email").textContent = `${me.email}, ${me.emailVerifyTime ? "confirmed" : "not confirmed"}`;
  $("confirm-present").hidden = Boolean(me.emailVerifyTime);
  for (const name of ["recovery-codes", "factor-form"]) $(name).hidden = true;
  hideSecret("factor");
  await listFactors();
}

$("open-account").onclick = () => attempt($("open-account"), openAccount);
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
  await callAboutEmail("/revert", reversal);
  recover("reset-form");
  say("This is the address of your account again. A mail with a code is on its way: choose a new password with it.");
});
for (const id of ["leave-account", "leave-confirmation", "leave-reversal"]) {
  $(id).onclick = () => {
    say("");
    if (me) leave();
    else show("entry");
  };
}

// --- Guests ---

$("play-as-guest").onclick = () => attempt($("entry"), playAsGuest);

async function keepAccount(account) {
  if (!(await upgrade(account))) return openConfirmation({ identifier: account.login, password: account.password });
  $("keep").open = false;
  $("lobby-title").focus();
  say(`The account is yours. Your name is ${me.login} from now on.`);
}

// --- A forgotten password ---

// Shows one of the two steps: asking for a code, or using it. An invited user chooses a first password in the second.
function recover(step, identifier = "", code = "", isInvited = false) {
  say("");
  $("recovery-title").textContent = isInvited ? "Choose a password" : "Forgot your password?";
  $("reset-password-label").textContent = isInvited ? "Password" : "New password";
  $("set-password").textContent = isInvited ? "Choose this password" : "Set the new password";
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
$("back-to-entry").onclick = () => {
  say("");
  show("entry");
  restore();
};

// Links from mails, by action. The parameters are behind the #, so the browser sends them to no server, and they are
// removed from the history. Nothing happens before the user presses a button.
const LINKS = {
  "reset-password": ({ identifier, code }) => recover("reset-form", identifier, code),
  "accept-invitation": ({ identifier, code }) => recover("reset-form", identifier, code, true),
  "verify-email": openConfirmation,
  "confirm-email": (values) => openConfirmation({ ...values, isNew: true }),
  "revert-email": ({ user_id: userId, code }) => {
    reversal = { userId, code };
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
  "You are a guest without a password. Only this browser can log you in again, and not if its data is cleared. Log out?";

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
  entitle(isMyTurn(game) ? "Your turn" : "");
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
  entitle("");
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
  entitle(mine.games.some(isMyTurn) ? "Your turn" : "");
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
