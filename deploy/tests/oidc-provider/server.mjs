// Serves OpenID Connect on loopback, with forms that accept any login and password.
//
//     node server.mjs <port> <redirect URI>

import Provider from "oidc-provider";

const [port, redirectUri] = process.argv.slice(2);

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [{
    client_id: "page",
    redirect_uris: [redirectUri],
    response_types: ["code"],
    grant_types: ["authorization_code"],
    // A page cannot keep a secret.
    token_endpoint_auth_method: "none",
  }],
  pkce: { required: () => true },
  // Lets the page exchange its code.
  clientBasedCORS: () => true,
  claims: { openid: ["sub"], email: ["email", "email_verified"] },
  // Puts the address into the ID token, as Google does.
  conformIdTokenClaims: false,
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({ sub: id, email: `${id}@example.com`, email_verified: true }),
  }),
});

provider.listen(Number(port), "127.0.0.1");
