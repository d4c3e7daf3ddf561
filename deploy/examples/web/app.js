// The page: what is shown, and what a click does. Who is logged in is session.js's.

import { ApiError, call, login, logout, onChange, register, restore, wait, watch } from "./session.js";

const LINES = [[0, 1, 2], [3, 4, 5], [6, 7, 8], [0, 3, 6], [1, 4, 7], [2, 5, 8], [0, 4, 8], [2, 4, 6]];
// Milliseconds after which the games are looked for again; also how soon a page without a game notices a logout from elsewhere.
const GAMES = 800;
// The same for what changes more slowly.
const STANDINGS = 5000;

const $ = (id) => document.getElementById(id);
let me = null;
let game = null;
let watching = null;

function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function say(text, isError = false) {
  $("message").textContent = text;
  $("message").classList.toggle("error", isError);
}

// Runs what a click or a form asks for, and says what went wrong.
async function attempt(action) {
  try {
    say("");
    await action();
  } catch (error) {
    if (!(error instanceof ApiError)) {
      console.error(error);
      return say("The server cannot be reached.", true);
    }
    const fields = error.fields.map(({ field, description }) => `${field} ${description}`);
    say(fields.length ? `${fields.join("; ")}.` : `${error.message}.`, true);
  }
}

function show(section) {
  for (const each of ["entry", "lobby", "game"]) $(each).hidden = each !== section;
}

onChange((user, reason) => {
  me = user;
  $("who").hidden = !user;
  $("login-name").textContent = user?.login ?? "";
  // Nothing of one user is left for the next.
  for (const id of ["my-games", "open-games", "history", "leaderboard"]) {
    $(id).replaceChildren();
    delete $(id).dataset.key;
  }
  if (user) return leave();
  watching?.abort();
  game = null;
  say(reason);
  show("entry");
});

$("login-form").onsubmit = (event) => {
  event.preventDefault();
  const { identifier, password } = Object.fromEntries(new FormData(event.target));
  attempt(async () => { await login(identifier, password); event.target.reset(); });
};

$("register-form").onsubmit = (event) => {
  event.preventDefault();
  const account = Object.fromEntries(new FormData(event.target));
  attempt(async () => { await register({ ...account, passwordConfirmation: account.password }); event.target.reset(); });
};

$("logout").onclick = () => attempt(() => (watching?.abort(), logout()));
$("leave").onclick = () => leave();
$("play-computer").onclick = () => attempt(() => create("OPPONENT_COMPUTER"));
$("open-game").onclick = () => attempt(() => create("OPPONENT_PLAYER"));
$("give-up").onclick = () => {
  const verb = game.state === "GAME_STATE_WAITING_FOR_PLAYER" ? "cancel" : "resign";
  attempt(async () => update((await call("POST", `/v1/games/${game.gameId}:${verb}`, {})).game));
};

async function create(opponent) {
  // With an id a second click, or a retry, makes no second game.
  play((await call("POST", "/v1/games", { opponent, requestId: crypto.randomUUID() })).game);
}

// --- A game ---

function play(opened) {
  show("game");
  draw(opened);
  $("game-title").focus();
  follow(opened.gameId);
}

// Watches a game to its end. A stream that is cut begins again; every message is the whole game, so nothing is missed.
async function follow(id) {
  watching?.abort();
  watching = new AbortController();
  const { signal } = watching;
  for (let began = 0; !signal.aborted && me && !isOver(game); ) {
    // At once, for it may be a logout that ended it; but not again and again.
    if (Date.now() - began < 1000) await wait(400 + 200 * Math.random());
    if (signal.aborted) return;
    began = Date.now();
    try {
      await watch(`/v1/games/${id}:watch`, ({ game: next }) => signal.aborted || update(next), signal);
    } catch (error) {
      if (signal.aborted || !me) return;
      if (error instanceof ApiError && error.httpStatus < 500 && error.httpStatus !== 429) {
        leave();
        return say(`${error.message}.`, true);
      }
      say("The connection is lost; trying again.", true);
    }
  }
}

// A page that nobody looks at needs no stream.
document.onvisibilitychange = () => {
  if (document.hidden) watching?.abort();
  else if (me && game && !isOver(game)) follow(game.gameId);
};

const isOver = ({ state }) => !["GAME_STATE_WAITING_FOR_PLAYER", "GAME_STATE_TURN"].includes(state);

// What an answer or the stream tells of the game that is shown. The older of the two changes nothing, nor does one of another game.
function update(next) {
  if (me && game?.gameId === next.gameId && Number(next.version) >= Number(game.version)) draw(next);
}

function draw(next) {
  game = next;
  const mine = game.xUserId === me.userId ? "X" : "O";
  const other = game.opponent === "OPPONENT_COMPUTER" ? "the computer" : (mine === "X" ? game.oLogin : game.xLogin) || "a friend";
  const isMyTurn = game.state === "GAME_STATE_TURN" && game.turnUserId === me.userId;
  const line = LINES.find(([a, b, c]) => game.board[a] !== "." && game.board[a] === game.board[b] && game.board[b] === game.board[c]) ?? [];
  $("game-title").textContent = `You (${mine}) against ${other}`;
  $("turn").textContent = outcome(isMyTurn, mine);
  const focused = [...$("board").children].indexOf(document.activeElement);
  $("board").replaceChildren(...[...game.board].map((mark, cell) => element("button", {
    type: "button",
    textContent: mark === "." ? "" : mark,
    ariaLabel: `Row ${Math.floor(cell / 3) + 1}, column ${(cell % 3) + 1}: ${mark === "." ? "free" : mark}`,
    className: line.includes(cell) ? "line" : "",
    onclick: () => isMyTurn && mark === "." && attempt(() => move(cell)),
    onkeydown: (event) => step(event, cell),
  })));
  if (focused >= 0) $("board").children[focused].focus();
  $("give-up").hidden = isOver(game);
  $("give-up").textContent = game.state === "GAME_STATE_WAITING_FOR_PLAYER" ? "Call it off" : "Give up";
}

function outcome(isMyTurn, mine) {
  if (game.state === "GAME_STATE_WAITING_FOR_PLAYER") return "Waiting for somebody to join …";
  if (game.state === "GAME_STATE_TURN") return isMyTurn ? "Your turn." : "Their turn …";
  if (game.state === "GAME_STATE_DRAW") return "A draw.";
  if (game.state === "GAME_STATE_CANCELLED") return "The game was called off.";
  const why = { END_REASON_RESIGNATION: " The other side gave up.", END_REASON_TIMEOUT: " Time ran out." }[game.endReason] ?? "";
  return game.winnerMark === `MARK_${mine}` ? `You have won!${why}` : "You have lost.";
}

async function move(cell) {
  try {
    update((await call("POST", `/v1/games/${game.gameId}:move`, { cell, expectedVersion: game.version })).game);
  } catch (error) {
    // Somebody was quicker, or another tab: what is true now comes by the stream.
    if (error.reason !== "VERSION_MISMATCH") throw error;
  }
}

// Arrow keys go from cell to cell.
function step(event, cell) {
  const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -3, ArrowDown: 3 }[event.key];
  if (!by) return;
  event.preventDefault();
  $("board").children[cell + by]?.focus();
}

// --- The lists ---

function leave() {
  watching?.abort();
  game = null;
  show("lobby");
  attempt(() => Promise.all([readGames(), readStandings()]));
}

async function readGames() {
  const [running, open] = await Promise.all([call("GET", "/v1/games?pageSize=10"), call("GET", "/v1/open-games?pageSize=10")]);
  if (!me) return;
  fill("my-games", running.games, (each) => [against(each), button("Go on", () => play(each))], "None.");
  const others = open.games.filter(({ xUserId, oUserId }) => ![xUserId, oUserId].includes(me.userId));
  fill("open-games", others, (each) => [each.xLogin || each.oLogin, button("Join", () => join(each.gameId))], "Nobody.");
}

async function readStandings() {
  const [top, rank, finished] = await Promise.all([
    call("GET", "/v1/leaderboard?limit=10"),
    call("GET", "/v1/leaderboard/rank"),
    call("GET", "/v1/finished-games?pageSize=10"),
  ]);
  if (!me) return;
  const entries = top.entries;
  if (rank.entry.rank !== "0" && !entries.some(({ userId }) => userId === me.userId)) entries.push(rank.entry);
  fill("history", finished.games, (each) => [against(each), result(each)], "No finished game yet.");
  $("leaderboard").replaceChildren(...entries.map((entry) => element("tr", { className: entry.userId === me.userId ? "me" : "" },
    ...[entry.rank, entry.login || "–", entry.wins, entry.losses, entry.draws].map((text) => element("td", { textContent: text })))));
}

const against = ({ xUserId, xLogin, oLogin, opponent }) =>
  `against ${opponent === "OPPONENT_COMPUTER" ? "the computer" : (xUserId === me.userId ? oLogin : xLogin) || "a friend"}`;

function result(each) {
  if (each.state === "GAME_STATE_DRAW") return "drawn";
  return each.winnerUserId === me.userId ? "won" : "lost";
}

async function join(id) {
  play((await call("POST", `/v1/games/${id}:join`, {})).game);
}

function button(text, action) {
  return element("button", { type: "button", textContent: text, onclick: () => attempt(async () => action()) });
}

// A list is made anew only where it has changed, so that a button keeps its focus.
function fill(id, rows, parts, none) {
  const key = JSON.stringify(rows.map(({ gameId, version }) => [gameId, version]));
  if ($(id).dataset.key === key) return;
  $(id).dataset.key = key;
  const items = rows.map((row) => element("li", {}, ...parts(row)));
  $(id).replaceChildren(...(items.length ? items : [element("li", { textContent: none })]));
}

const inLobby = () => me && !$("lobby").hidden && !document.hidden;
const isFinished = () => me && game && isOver(game) && !document.hidden;
setInterval(() => inLobby() && readGames().catch(() => {}), GAMES);
setInterval(() => isFinished() && call("GET", "/v1/me").catch(() => {}), GAMES);
setInterval(() => inLobby() && readStandings().catch(() => {}), STANDINGS);

restore();
