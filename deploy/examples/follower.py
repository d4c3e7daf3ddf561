"""Verifies access tokens and follows the access feed, in Python: the part that a service in another language writes itself.
Copy it into your service: `follow` keeps a `View` up to date, and `Protection` lets it decide about each call.

    follower.py ADDRESS CLIENT_ID SECRET_FILE

reads lines of `TOKEN [PERMISSION]` and answers each with the user's login, or with the reason why the token is refused.
`deploy/docs/your-own-service.md` explains the rules, and how to generate the package `auth` from `proto/auth`.
"""

import asyncio
import contextvars
import dataclasses
import math
import os
import pathlib
import random
import sys
import time

import grpc
import jwt
from auth.v1 import access_feed_service_pb2, access_feed_service_pb2_grpc, auth_service_pb2, auth_service_pb2_grpc
from google.rpc import error_details_pb2, status_pb2

# Seconds by which the clocks of auth-service and of this machine may differ.
LEEWAY = 30
# Seconds without a message after which a logout may have been missed, and after which a stream is given up.
SILENCE, MESSAGE_WITHIN = 5, 3
# Seconds for which a revocation is kept if the server does not say: the longest life of a token and 330.
KEPT_BY_DEFAULT = 1800 + 330
# Codes of refusals by their reasons. All others, which are about the token, have the code UNAUTHENTICATED.
CODES = {
    "STARTING": grpc.StatusCode.UNAVAILABLE,
    "ACCESS_FEED_SILENT": grpc.StatusCode.UNAVAILABLE,
    "PERMISSION_DENIED": grpc.StatusCode.PERMISSION_DENIED,
    "POLICY_MISSING": grpc.StatusCode.PERMISSION_DENIED,
}
# Claims of the caller, for the code of an RPC; None in a public one.
CALLER = contextvars.ContextVar("caller", default=None)
REQUIRED = ["iss", "aud", "sub", "exp", "iat", "nbf", "jti", "client_id", "ver", "roles", "permissions", "preferred_username"]


class Refused(Exception):
    """The reason why a call is refused, as the services themselves name it."""


@dataclasses.dataclass
class Known:
    """State learned from the feed."""

    keys: dict = dataclasses.field(default_factory=dict)
    roles: dict = dataclasses.field(default_factory=dict)
    # By session or user: versions below which tokens are refused, until when, and the tokens of what time.
    revoked: dict = dataclasses.field(default_factory=dict)

    def apply(self, event, until):
        match event.WhichOneof("event"):
            case "session_revoked":
                self.revoke(event.session_revoked.session_id, math.inf, until)
            case "user_tokens_revoked":
                self.revoke(event.user_tokens_revoked.user_id, event.user_tokens_revoked.min_version, until)
            case "role_changed":
                role = event.role_changed
                self.roles[role.code_name] = set() if role.is_deleted else set(role.permissions)
            case "keys_changed":
                keys = event.keys_changed.keys
                self.keys = {key.kid: jwt.PyJWK({"kty": key.kty, "crv": key.crv, "x": key.x}, "EdDSA") for key in keys}
            # Names are no part of what a token may do, and an event that is not known here is about something else.

    def revoke(self, subject, version, until, issued_before=math.inf):
        entries = self.revoked.setdefault(subject, {})
        known_until, known_before = entries.get(version, (until, issued_before))
        entries[version] = (max(until, known_until), max(issued_before, known_before))

    def keep(self, before, now, issued_before):
        """Keeps older revocations. One that a snapshot lacks was lost with the end of a database: it goes on for older tokens."""
        for subject, entries in before.revoked.items():
            for version, (until, limit) in entries.items():
                if until > now:
                    self.revoke(subject, version, until, min(limit, issued_before))


class View:
    """Decides about tokens by what the feed has said. Before the first snapshot it refuses everything."""

    def __init__(self, issuer, audiences, monotonic=time.monotonic):
        self.issuer, self.audiences, self.monotonic = issuer, audiences, monotonic
        self.known, self.withdrawn = Known(), set()
        self.epoch, self.sequence, self.heard = "", 0, -math.inf

    def check(self, token, permission=None, is_read=False):
        """Gives the claims of a token that may make this call, or raises Refused."""
        if not self.epoch:
            raise Refused("STARTING")
        claims, known, now = self.verify(token), self.known, self.monotonic()
        for subject, reason in [(claims.get("sid"), "TOKEN_REVOKED"), (claims["sub"], "TOKEN_STALE")]:
            for version, (until, issued_before) in known.revoked.get(subject, {}).items():
                if claims["ver"] < version and claims["iat"] < issued_before and now < until:
                    raise Refused(reason)
        if not is_read and now - self.heard > SILENCE:
            raise Refused("ACCESS_FEED_SILENT")
        if permission:
            wanted = {permission, permission.split(":")[0] + ":all"}
            held = set(claims["permissions"]).union(*(known.roles.get(role, ()) for role in claims["roles"]))
            if "superuser" not in claims["roles"] and not wanted & held:
                raise Refused("PERMISSION_DENIED")
        return claims

    def verify(self, token):
        try:
            header = jwt.get_unverified_header(token)
            if header.keys() != {"alg", "typ", "kid"} or header["typ"] != "at+jwt":
                raise Refused("TOKEN_INVALID")
            key = self.known.keys[header["kid"]]
            options = {"require": REQUIRED, "strict_aud": False}
            named = {"issuer": self.issuer, "audience": self.audiences, "leeway": LEEWAY}
            claims = jwt.decode(token, key, algorithms=["EdDSA"], options=options, **named)
        except jwt.ExpiredSignatureError as error:
            raise Refused("TOKEN_EXPIRED") from error
        except jwt.ImmatureSignatureError as error:
            raise Refused("TOKEN_NOT_YET_VALID") from error
        except (jwt.PyJWTError, KeyError) as error:
            raise Refused("TOKEN_INVALID") from error
        if claims["client_id"] == "first-party" and "sid" not in claims:
            raise Refused("TOKEN_INVALID")
        return claims

    def swap(self, fresh, message):
        """Replaces roles and keys by a snapshot, all at once, and keeps the revocations that were known."""
        issued_before = max(message.server_time.ToSeconds(), time.time()) + LEEWAY
        fresh.keep(self.known, self.monotonic(), issued_before)
        self.withdraw(fresh, self.known.keys)
        self.known = fresh

    def withdraw(self, known, before):
        """A key that was taken out never comes back: it may have leaked, and a restored database may offer it again."""
        self.withdrawn |= before.keys() - known.keys.keys()
        known.keys = {kid: key for kid, key in known.keys.items() if kid not in self.withdrawn}


class Intake:
    """Takes the messages of one stream into the view. Every stream needs its own."""

    def __init__(self, view):
        self.view, self.fresh, self.epoch = view, Known(), None

    def apply(self, message):
        view, is_live = self.view, self.fresh is None
        if message.is_snapshot == is_live or self.epoch not in (None, message.epoch) or (is_live and message.sequence < view.sequence):
            raise ValueError("the feed goes on at another place than where it was: watch again")
        self.epoch = message.epoch
        known, before = (view.known, view.known.keys) if is_live else (self.fresh, {})
        until = view.monotonic() + (message.revocation_seconds or KEPT_BY_DEFAULT)
        for event in message.events:
            if not is_live or event.sequence > view.sequence:
                known.apply(event, until)
        if is_live:
            view.withdraw(known, before)
        elif message.is_caught_up:
            view.swap(self.fresh, message)
            self.fresh = None
        else:
            return
        view.epoch, view.sequence, view.heard = message.epoch, message.sequence, view.monotonic()


class Protection(grpc.aio.ServerInterceptor):
    """Refuses the calls that the view does not allow.

    `policies` has, by the path of an RPC, what `View.check` is given beside the token; None admits everybody.
    """

    def __init__(self, view, policies):
        self.view, self.policies = view, policies

    async def intercept_service(self, continuation, handler_call_details):
        path, metadata = handler_call_details.method, handler_call_details.invocation_metadata
        try:
            CALLER.set(self.caller(path, [value for key, value in metadata if key == "authorization"]))
        except Refused as refused:
            return refusal(str(refused))
        return await continuation(handler_call_details)

    def caller(self, path, sent):
        if path not in self.policies:
            raise Refused("POLICY_MISSING")
        if self.policies[path] is None:
            return None
        if not sent:
            raise Refused("TOKEN_MISSING")
        scheme, _, token = sent[0].partition(" ")
        # Two tokens could be those of two callers, so neither is accepted.
        if len(sent) > 1 or scheme.lower() != "bearer":
            raise Refused("TOKEN_INVALID")
        return self.view.check(token, **self.policies[path])


def refusal(reason):
    """Makes the handler of a refused call, which answers with the reason in an ErrorInfo."""
    code = CODES.get(reason, grpc.StatusCode.UNAUTHENTICATED)
    status = status_pb2.Status(code=code.value[0], message=reason)
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain="authz.v1"))

    async def refuse(_, context):
        await context.abort(code, reason, (("grpc-status-details-bin", status.SerializeToString()),))

    return grpc.stream_stream_rpc_method_handler(refuse)


def backoff(failures):
    """The seconds before the next try, after this many failures in a row."""
    return min(0.1 * 2 ** min(failures, 5), 2)


def stop_deaf_program(following):
    """Ends the program if it no longer follows the feed."""
    if not following.cancelled():
        following.print_stack()
        os._exit(1)


async def follow(view, address, client_id, secret_file):
    """Keeps the view up to date until it is cancelled."""
    auth_failures = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.INVALID_ARGUMENT}
    options = [("grpc.max_receive_message_length", 16 * 1024 * 1024), ("grpc.max_reconnect_backoff_ms", 2000)]
    failures = 0
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        while True:
            wait = backoff(failures)
            try:
                # Read for each token, so that the secret can be rotated without a restart.
                secret = pathlib.Path(secret_file).read_text().strip()
                asked = auth_service_pb2.IssueServiceTokenRequest(client_id=client_id, client_secret=secret, audience="auth-service")
                issued = await auth_service_pb2_grpc.AuthServiceStub(channel).IssueServiceToken(asked, timeout=5)
                metadata = [("authorization", f"Bearer {issued.access_token}")]
                request = access_feed_service_pb2.WatchRequest(epoch=view.epoch, after_sequence=view.sequence)
                stream = access_feed_service_pb2_grpc.AccessFeedServiceStub(channel).Watch(request, metadata=metadata)
                intake = Intake(view)
                while (message := await asyncio.wait_for(stream.read(), MESSAGE_WITHIN)) is not grpc.aio.EOF:
                    intake.apply(message)
                    failures = 0
            except grpc.aio.AioRpcError as error:
                print(f"cannot follow the access feed: {error.code().name}: {error.details()}", file=sys.stderr)
                # Refused credentials count as attempts. A stream's own token expires after ten minutes, which is no refusal.
                if error.code() in auth_failures and failures:
                    wait = 10
            except (TimeoutError, ValueError, OSError) as error:
                print(f"cannot follow the access feed: {type(error).__name__}: {error}", file=sys.stderr)
            failures += 1
            await asyncio.sleep(wait * random.uniform(0.5, 1))


async def main(address, client_id, secret_file):
    view = View("auth-service", ["game-backend", client_id])
    following = asyncio.create_task(follow(view, address, client_id, secret_file))
    following.add_done_callback(stop_deaf_program)
    while line := await asyncio.to_thread(sys.stdin.readline):
        if not line.strip():
            continue
        try:
            print(view.check(*line.split())["preferred_username"], flush=True)
        except Refused as refused:
            print(refused, flush=True)
    following.cancel()


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: follower.py ADDRESS CLIENT_ID SECRET_FILE")
    asyncio.run(main(*sys.argv[1:]))
