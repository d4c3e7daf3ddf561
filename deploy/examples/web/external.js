// Logins with identity providers such as Google: OpenID Connect, the code flow with PKCE (RFC 7636). The browser leaves the page for
// the provider and comes back with a code in the query. The page exchanges the code for an ID token, which it sends to auth-service.
// The verifier and the nonce are in sessionStorage meanwhile, so only this tab can go on. The provider must know the address of this
// page as a redirect URI of a public client, and must allow its origin at the token endpoint (CORS). The gateway's content security
// policy must allow the provider's origins, too.

import { ApiError } from "./session.js";

const PENDING = "external login";
const REDIRECT_URI = `${location.origin}/`;

const base64url = (bytes) => btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
const random = () => base64url(crypto.getRandomValues(new Uint8Array(32)));

// An error whose message is shown to the user.
const failed = (message) => new ApiError(424, { message });

async function readJson(url, options) {
  const response = await fetch(url, { credentials: "omit", ...options }).catch(() => null);
  if (!response?.ok) throw failed(`${new URL(url).host} cannot be reached, or has refused the login`);
  return response.json();
}

// Goes to the provider. `started` is what StartExternalLogin has answered, and `purpose` comes back with the ID token. With
// `isFresh`, the provider asks the user to log in even if they are.
export async function leaveFor({ name, issuer, webClientId }, started, purpose, isFresh = false) {
  const discovered = await readJson(`${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`);
  const [verifier, state] = [random(), random()];
  const challenge = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier));
  const pending = { purpose, name, issuer, webClientId, verifier, state, nonce: started.nonce, tokenEndpoint: discovered.token_endpoint };
  sessionStorage.setItem(PENDING, JSON.stringify(pending));
  const target = new URL(discovered.authorization_endpoint);
  const parameters = {
    response_type: "code",
    client_id: webClientId,
    redirect_uri: REDIRECT_URI,
    scope: "openid email",
    nonce: started.providerNonce,
    state,
    code_challenge: base64url(new Uint8Array(challenge)),
    code_challenge_method: "S256",
    ...(isFresh ? { prompt: "login", max_age: "0" } : {}),
  };
  for (const [parameter, value] of Object.entries(parameters)) target.searchParams.set(parameter, value);
  location.assign(target);
}

// Takes the answer of a provider from the address, which is then removed from the history. Returns null if there is none.
export function takeAnswer() {
  const answer = Object.fromEntries(new URLSearchParams(location.search));
  if (!answer.state || !(answer.code || answer.error)) return null;
  history.replaceState(null, "", location.pathname);
  const pending = JSON.parse(sessionStorage.getItem(PENDING) ?? "null");
  sessionStorage.removeItem(PENDING);
  // The answer to a request that this tab has not made may be somebody else's login.
  if (pending?.state !== answer.state) return null;
  return { pending, answer };
}

// Exchanges the code of an answer for an ID token. Returns the proof for auth-service, or null if the user has changed their mind.
export async function exchange({ pending, answer }) {
  if (answer.error === "access_denied") return null;
  if (answer.error) throw failed(`the provider refused the login: ${answer.error}`);
  // Names the provider that has answered (RFC 9207).
  if (answer.iss && answer.iss !== pending.issuer) throw failed("another provider has answered");
  const body = new URLSearchParams({
    grant_type: "authorization_code",
    code: answer.code,
    redirect_uri: REDIRECT_URI,
    client_id: pending.webClientId,
    code_verifier: pending.verifier,
  });
  const { id_token: idToken } = await readJson(pending.tokenEndpoint, { method: "POST", body });
  return { provider: pending.name, idToken, nonce: pending.nonce };
}
