"""An identity provider on loopback: a discovery document, a key, and ID tokens for whoever asks."""

import contextlib
import http.server
import json
import threading
import time

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

CLIENT = "tests"


class IdentityProvider:
    def __init__(self):
        self.key = ec.generate_private_key(ec.SECP256R1())
        jwk = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self.key.public_key()))
        provider = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                documents = {
                    "/.well-known/openid-configuration": {"issuer": provider.issuer, "jwks_uri": f"{provider.issuer}/keys"},
                    "/keys": {"keys": [{**jwk, "kid": "key", "use": "sig", "alg": "ES256"}]},
                }
                body = json.dumps(documents.get(self.path, {})).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def entry(self, **more):
        """Returns the provider's entry in the operator's file. Pages do not show it."""
        entry = {"name": "tests", "issuer": self.issuer, "audiences": [CLIENT], "algorithms": ["ES256"], "allow_private_addresses": True}
        return {**entry, **more}

    def id_token(self, subject, nonce, **more):
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT, "sub": subject, "nonce": nonce, "iat": now, "exp": now + 600}
        return jwt.encode({**claims, **more}, self.key, algorithm="ES256", headers={"kid": "key"})

    def proof(self, rest, subject, **more):
        """Begins a login with a client of the gateway, and returns a proof by this user."""
        started = rest.post("/v1/auth/start-external-login", json={"provider": "tests"})
        assert started.status_code == 200, started.text
        nonces = started.json()
        return {"provider": "tests", "idToken": self.id_token(subject, nonces["providerNonce"], **more), "nonce": nonces["nonce"]}


@contextlib.contextmanager
def running():
    provider = IdentityProvider()
    try:
        yield provider
    finally:
        provider.server.shutdown()


def settings(folder, *entries):
    """Writes the operator's file, and returns the setting that names it."""
    file = folder / "identity-providers.json"
    file.write_text(json.dumps(entries))
    return ["--identity-providers-file", file]
