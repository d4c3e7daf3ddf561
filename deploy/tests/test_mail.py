"""Mails by SMTP: what real mail servers get, what happens while they fail, and that no mail is lost.

`KILL_ROUNDS` says how often the service is killed while it sends. The default is 3.
"""

import asyncio
import collections
import contextlib
import email
import email.policy
import glob
import html
import math
import os
import random
import re
import signal
import ssl
import subprocess
import types
import urllib.parse
import uuid

import grpc
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from conftest import CHEAP, PASSWORD, PROGRAMS, STANDALONE, UNLIMITED, free_ports, make_certificate, until
from replicas import Replicas, write_secret
from services import AUTH, Services

import api

KILL_ROUNDS = int(os.environ.get("KILL_ROUNDS", 3))
PUBLIC_URL = "https://play.example.com/app"
SENDER = "My Game <no-reply@example.com>"
NEW = "another horse"
USER, SMTP_PASSWORD = "mailer@example.com", "hunter2 and more"
STARTTLS, IMPLICIT_TLS = "STARTTLS", "implicit TLS"
# The end of a connection, as the answer of a mail server.
CUT = object()
# All headers that a mail may have.
HEADERS = {"From", "To", "Subject", "Message-ID", "Date", "Auto-Submitted", "MIME-Version", "Content-Type"}


class Mail:
    """A mail as a mail server got it."""

    def __init__(self, server, session, envelope):
        self.message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        self.sender, self.recipients = envelope.mail_from, envelope.rcpt_tos
        self.user = session.auth_data
        self.is_encrypted = server.transport.get_extra_info("cipher") is not None

    def __repr__(self):
        return f"{self.id} to {self.recipients}"

    def __getitem__(self, header):
        return self.message[header]

    @property
    def id(self):
        return self["Message-ID"]

    @property
    def text(self):
        return self.message.get_body(["plain"]).get_content().replace("\r\n", "\n")

    @property
    def html(self):
        return self.message.get_body(["html"]).get_content().replace("\r\n", "\n")

    @property
    def code(self):
        """The code to type."""
        return re.search(r"^\s*(\w{4}-\w{4})\s*$", self.text, re.M)[1]

    @property
    def link(self):
        return re.search(r"^https?://\S+$", self.text, re.M)[0]

    @property
    def html_links(self):
        return [html.unescape(link) for link in re.findall(r'href="([^"]*)"', self.html)]

    @property
    def linked(self):
        """The fields of the link: `identifier` and the long `code`."""
        action, _, query = urllib.parse.urlsplit(self.link).fragment.partition("?")
        assert action == "reset-password"
        return dict(urllib.parse.parse_qsl(query, strict_parsing=True))


class MailServer(Controller):
    """A real mail server, which keeps what it gets.

    `answer` gets a key and the number of earlier attempts with this key. It returns None to accept,
    an answer of SMTP, or CUT. It is asked at one stage: at RCPT the key is the address, at DATA it
    is the Message-ID.
    """

    def __init__(self, stage="DATA", answer=lambda key, attempt: None, port=None, passwords=None, **options):
        self.stage, self.answer, self.passwords = stage, answer, passwords or {}
        self.attempts = collections.Counter()
        # Every mail whose text came, those that were accepted, and every user who tried to log in.
        self.received, self.accepted, self.logins = [], [], []
        # Number of mails that are still accepted, and of those that wait since.
        self.room, self.held = math.inf, 0
        self.released = asyncio.Event()
        port = port or free_ports(1)[0]
        super().__init__(self, hostname="127.0.0.1", port=port, authenticator=self.log_in, **options)

    def stop(self):
        if self.server:
            super().stop()

    def hold_after(self, count):
        """Accepts this many mails more. All others wait until `release`."""
        self.released, self.held, self.room = asyncio.Event(), 0, count

    def release(self):
        self.room = math.inf
        self.loop.call_soon_threadsafe(self.released.set)

    def log_in(self, _server, _session, _envelope, _mechanism, given):
        user = given.login.decode()
        self.logins.append(user)
        is_right = self.passwords.get(user) == given.password.decode()
        return AuthResult(success=is_right, handled=False, auth_data=user)

    async def handle_RCPT(self, _server, _session, envelope, address, _options):
        refusal = self.answer_at("RCPT", address)
        if refusal is None:
            envelope.rcpt_tos.append(address)
        return refusal or "250 OK"

    async def handle_DATA(self, server, session, envelope):
        mail = Mail(server, session, envelope)
        if "#verify-email?" in mail.text:
            # Every registration sends one.
            return "250 OK"
        self.received.append(mail)
        if self.room <= 0:
            self.held += 1
            await self.released.wait()
        self.room -= 1
        refusal = self.answer_at("DATA", mail.id)
        if refusal is None:
            self.accepted.append(mail)
        return refusal or "250 OK"

    def answer_at(self, stage, key):
        if stage != self.stage:
            return None
        answer = self.answer(key, self.attempts[key])
        self.attempts[key] += 1
        if answer is CUT:
            # The server closes the connection of a call that is cancelled.
            raise asyncio.CancelledError
        return answer

    def gets(self, count):
        """Waits until this many different mails were accepted, and returns all that were."""
        until(lambda: len(ids(self.accepted)) >= count, f"{count} mails, not {self.accepted}", seconds=30)
        assert len(ids(self.accepted)) == count, self.accepted
        return list(self.accepted)


def ids(mails):
    return {mail.id for mail in mails}


def by_address(mails):
    """The mails by their recipient, of whom each has one."""
    return {address: mail for mail in mails for [address] in [mail.recipients]}


def to(server, *more, scheme="smtp", user="", query="", sender=SENDER):
    """The settings with which a service sends to this mail server."""
    user = f"{urllib.parse.quote(user, safe='')}@" if user else ""
    url = f"{scheme}://{user}127.0.0.1:{server.port}{query}"
    return ["--smtp-url", url, "--mail-from", sender, "--public-url", PUBLIC_URL, *more]


def failures(services):
    """The lines of the log about attempts that failed."""
    return [line for line in services.deployment.standalone.log().splitlines() if "cannot send a mail" in line]


def wait_for_failures(services, count):
    return until(lambda: len(found := failures(services)) >= count and found, f"{count} failures in the log")


def register(client, login=None, **fields):
    """Registers a user, and returns the login."""
    login = login or f"p{uuid.uuid4().hex[:12]}"
    passwords = {"password": PASSWORD, "passwordConfirmation": PASSWORD}
    client.call(f"{AUTH}/Register", {"login": login, "email": f"{login}@example.com", **passwords, **fields})
    return login


def request_reset(client, identifier, **options):
    client.call(f"{AUTH}/RequestPasswordReset", {"identifier": identifier}, **options)


def reset_fields(identifier, code):
    return {"identifier": identifier, "code": code, "newPassword": NEW, "newPasswordConfirmation": NEW}


def ask(client, count):
    """Makes this many users, who each ask for a mail."""
    logins = [register(client) for _ in range(count)]
    for login in logins:
        request_reset(client, login)
    return logins


def tls_options(way, certificate):
    """The options of a mail server that encrypts in this way."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    key, chain = certificate
    context.load_cert_chain(chain, key)
    if way == STARTTLS:
        return {"tls_context": context, "require_starttls": True}
    # aiosmtpd knows of no TLS but STARTTLS, so it must offer logins without it.
    return {"ssl_context": context, "auth_require_tls": False}


def to_tls(server, way, folder):
    """The settings of a service that logs in at this mail server."""
    password_file = folder / "smtp-password"
    write_secret(password_file, SMTP_PASSWORD + "\n")
    url = {"scheme": "smtps"} if way == IMPLICIT_TLS else {"query": "?tls=required"}
    return to(server, "--smtp-password-file", password_file, user=USER, **url)


def trusting(certificate):
    return {"SSL_CERT_FILE": str(certificate[1])}


def ahead(minutes):
    """The environment of a program whose clock is this many minutes ahead."""
    found = glob.glob("/usr/lib/*/faketime/libfaketime.so.1") or pytest.fail(
        "libfaketime is missing: apt-get install -y --no-install-recommends faketime"
    )
    monotonic = {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}
    return {"LD_PRELOAD": found[0], "FAKETIME": f"+{minutes}m", **monotonic}


@pytest.fixture
def mail_server():
    """Makes mail servers that end with the test."""
    with contextlib.ExitStack() as stack:

        def make(**options):
            server = MailServer(**options)
            server.start()
            stack.callback(server.stop)
            return server

        yield make


@pytest.fixture
def mailing(tmp_path):
    """Starts both services as one process without a gateway. It ends with the test."""
    with contextlib.ExitStack() as stack:

        def start(settings, environment=None):
            folder = tmp_path / uuid.uuid4().hex
            folder.mkdir()
            services = Services(folder, STANDALONE, [*CHEAP, *UNLIMITED, *settings], None)
            services.deployment.environment = environment or {}
            stack.callback(services.deployment.stop)
            return services.start()

        yield start


# --- What arrives -------------------------------------------------------------------------------


def test_the_code_of_a_mail_resets_the_password_by_rest(own_gateway, mail_server):
    server = mail_server()
    gateway = own_gateway(standalone=to(server))
    user = gateway.register()["user"]
    # A request for a user who does not exist sends no mail.
    for identifier in ["nobody-at-all", user["login"]]:
        asked = gateway.rest().post("/v1/auth/request-password-reset", json={"identifier": identifier})
        assert (asked.status_code, asked.json()) == (200, {})
    [mail] = server.gets(1)

    assert (mail.sender, mail.recipients) == ("no-reply@example.com", [user["email"]])
    assert (mail["From"], mail["To"]) == (SENDER, user["email"])
    assert mail["Subject"] == "Reset your password for play.example.com"
    assert re.fullmatch(r"<[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}@example\.com>", mail.id)
    assert mail["Auto-Submitted"] == "auto-generated"
    assert set(mail.message.keys()) == HEADERS
    assert mail.message.get_content_type() == "multipart/alternative"
    parts = [part.get_content_type() for part in mail.message.iter_parts()]
    assert parts == ["text/plain", "text/html"]
    assert mail.link.startswith(f"{PUBLIC_URL}#reset-password?")
    assert mail.code in mail.html
    assert mail.html_links == [mail.link]

    fields = reset_fields(user["email"], mail.code)
    answer = gateway.rest().post("/v1/auth/reset-password", json=fields)
    assert answer.status_code == 200, answer.text
    assert gateway.rest(answer.json()["tokens"]["accessToken"]).get("/v1/me").status_code == 200
    for password, status in [(PASSWORD, 401), (NEW, 200)]:
        credentials = {"identifier": user["login"], "password": password}
        assert gateway.rest().post("/v1/auth/login", json=credentials).status_code == status
    again = gateway.rest().post("/v1/auth/reset-password", json=fields)
    assert (again.status_code, api.reason(again.json()["details"])) == (401, "CODE_INVALID")
    # Users are told of the new password and of the login from a new device.
    mails = server.gets(3)
    assert all(mail.recipients == [user["email"]] for mail in mails)
    assert {mail["Subject"] for mail in mails[1:]} == {
        "Your password for play.example.com has changed",
        "New login to your account at play.example.com",
    }


def test_the_link_of_a_mail_resets_the_password_by_grpc(mailing, mail_server):
    server = mail_server()
    services = mailing(to(server))
    login = register(services.auth)
    request_reset(services.auth, login)
    [mail] = server.gets(1)
    assert mail.linked["identifier"] == f"{login}@example.com"
    answer = services.auth.call(f"{AUTH}/ResetPassword", reset_fields(**mail.linked))
    assert answer["user"]["login"] == login
    assert services.login(login, password=NEW)["user"]["userId"] == answer["user"]["userId"]
    assert mail.code not in services.deployment.standalone.log()
    assert mail.linked["code"] not in services.deployment.standalone.log()


def test_mails_are_in_the_language_of_the_caller(mailing, mail_server):
    server = mail_server()
    services = mailing(to(server, sender="Моя игра <no-reply@example.com>"))
    wanted = {"ru-RU,ru;q=0.9": "пароль", "en": "password", "../../etc/passwd": "password", "x" * 2000: "password"}
    logins = {languages: register(services.auth) for languages in wanted}
    for languages, login in logins.items():
        request_reset(services.auth, login, metadata=[("accept-language", languages)])
    mails = by_address(server.gets(len(wanted)))
    for languages, word in wanted.items():
        mail = mails[f"{logins[languages]}@example.com"]
        assert word in mail.text and word in mail.html, languages
        assert mail["From"] == "Моя игра <no-reply@example.com>"
        assert mail["Subject"].isprintable() and "play.example.com" in mail["Subject"]


def test_an_international_address_gets_its_mail(mailing, mail_server):
    server = mail_server()
    services = mailing(to(server))
    # A domain is sent in the form that every mail server understands.
    addresses = {
        "zoë@example.com": "zoë@example.com",
        "zoe@bücher.example": "zoe@xn--bcher-kva.example",
        "ann+game@xn--fa-hia.example": "ann+game@xn--fa-hia.example",
        "bob＠example.com": "bob@example.com",
    }
    for address in addresses:
        request_reset(services.auth, register(services.auth, email=address))
    mails = by_address(server.gets(len(addresses)))
    assert mails.keys() == set(addresses.values())
    for address, mail in mails.items():
        assert mail["To"] == address


# --- TLS ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [STARTTLS, IMPLICIT_TLS])
def test_mails_are_encrypted_and_the_service_logs_in(mailing, mail_server, tmp_path, way):
    certificate = make_certificate(tmp_path, "IP:127.0.0.1")
    server = mail_server(passwords={USER: SMTP_PASSWORD}, **tls_options(way, certificate))
    services = mailing(to_tls(server, way, tmp_path), trusting(certificate))
    ask(services.auth, 3)
    for mail in server.gets(3):
        assert (mail.user, mail.is_encrypted) == (USER, True)
        for secret in [SMTP_PASSWORD, mail.code, mail.linked["code"]]:
            assert secret not in services.deployment.standalone.log()


@pytest.mark.parametrize("way", [STARTTLS, IMPLICIT_TLS])
@pytest.mark.parametrize("fault", ["not trusted", "for another name"])
def test_nothing_is_sent_to_a_server_with_a_wrong_certificate(mailing, mail_server, tmp_path, way, fault):
    name = "IP:127.0.0.1" if fault == "not trusted" else "DNS:mail.example.com"
    certificate = make_certificate(tmp_path, name)
    trusted = make_certificate(tmp_path, name) if fault == "not trusted" else certificate
    server = mail_server(passwords={USER: SMTP_PASSWORD}, **tls_options(way, certificate))
    services = mailing(to_tls(server, way, tmp_path), trusting(trusted))
    ask(services.auth, 1)
    lines = wait_for_failures(services, 2)
    assert all("certificate" in line for line in lines), lines
    assert (server.received, server.logins) == ([], [])
    assert SMTP_PASSWORD not in services.deployment.standalone.log()


def test_nothing_is_sent_to_a_server_without_the_required_starttls(mailing, mail_server, tmp_path):
    server = mail_server(passwords={USER: SMTP_PASSWORD}, auth_require_tls=False)
    services = mailing(to_tls(server, STARTTLS, tmp_path))
    ask(services.auth, 1)
    lines = wait_for_failures(services, 2)
    assert all("STARTTLS" in line for line in lines), lines
    assert (server.received, server.logins) == ([], [])


@pytest.mark.parametrize("way", [STARTTLS, IMPLICIT_TLS])
def test_mails_wait_while_the_server_refuses_the_password(mailing, mail_server, tmp_path, way):
    certificate = make_certificate(tmp_path, "IP:127.0.0.1")
    server = mail_server(passwords={USER: "another password"}, **tls_options(way, certificate))
    services = mailing(to_tls(server, way, tmp_path), trusting(certificate))
    ask(services.auth, 3)
    lines = wait_for_failures(services, 3)
    assert all("535" in line for line in lines), lines
    assert server.received == []
    server.passwords = {USER: SMTP_PASSWORD}
    for mail in server.gets(3):
        for secret in [SMTP_PASSWORD, mail.code, mail.linked["code"]]:
            assert secret not in services.deployment.standalone.log()


# --- Faults -------------------------------------------------------------------------------------


def test_mails_wait_until_the_server_is_up(mailing, mail_server):
    down = types.SimpleNamespace(port=free_ports(1)[0])
    services = mailing(to(down))
    logins = ask(services.auth, 5)
    wait_for_failures(services, 5)
    mails = mail_server(port=down.port).gets(5)
    assert sorted(mail.recipients for mail in mails) == sorted([f"{login}@example.com"] for login in logins)
    # Each was sent once.
    assert len(mails) == 5


def test_mails_are_sent_after_a_restart_of_the_server(mailing, mail_server):
    server = mail_server()
    services = mailing(to(server))
    ask(services.auth, 3)
    server.gets(3)
    # The service still has connections to it.
    server.stop()
    ask(services.auth, 3)
    assert len(mail_server(port=server.port).gets(3)) == 3


@pytest.mark.parametrize(
    ("stage", "answers"),
    [
        ("RCPT", ["550 5.1.1 no such user"]),
        ("DATA", ["550 5.7.1 this looks like spam"]),
        ("RCPT", ["451 4.7.1 greylisted, try again later"] * 2),
        ("DATA", [CUT]),
    ],
    ids=["refused address", "refused mail", "greylisting", "cut after the mail"],
)
def test_every_mail_arrives_however_the_first_attempts_end(mailing, mail_server, stage, answers):
    server = mail_server(stage=stage, answer=lambda _, attempt: dict(enumerate(answers)).get(attempt))
    services = mailing(to(server))
    logins = ask(services.auth, 5)
    request_reset(services.auth, logins[0])
    mails = server.gets(6)
    assert len(mails) == 6, "each was accepted once"
    recipients = sorted([f"{login}@example.com"] for login in [logins[0], *logins])
    assert sorted(mail.recipients for mail in mails) == recipients
    if stage == "DATA":
        # Each attempt was to send the same mail.
        assert len(server.received) == 6 * (1 + len(answers))
        assert {(mail.id, mail["Date"], mail.code, mail.link) for mail in server.received} == {
            (mail.id, mail["Date"], mail.code, mail.link) for mail in mails
        }


def test_an_address_that_is_always_refused_holds_up_no_other_mail(mailing, mail_server):
    server = mail_server(stage="RCPT", answer=lambda address, _: "550 no" if address.startswith("refused") else None)
    services = mailing(to(server))
    request_reset(services.auth, register(services.auth, "refused"))
    wait_for_failures(services, 2)
    ask(services.auth, 3)
    assert len(server.gets(3)) == 3


def test_no_call_waits_for_a_slow_server(mailing, mail_server):
    server = mail_server()
    services = mailing(to(server))
    server.hold_after(0)
    login = register(services.auth)
    request_reset(services.auth, login)
    until(lambda: server.held, "the server has the mail and does not answer")
    services.login(login)
    request_reset(services.auth, login)
    other = register(services.auth)
    request_reset(services.auth, other)
    assert services.auth.refusal(f"{AUTH}/ResetPassword", reset_fields(login, "2222-2222"))[0] == "UNAUTHENTICATED"
    # All of this was answered while the server still held the first mail.
    assert (server.accepted, server.released.is_set()) == ([], False)
    server.release()
    # The login from a new device was announced as well.
    assert len(server.gets(4)) == 4


def test_a_slow_mail_holds_up_no_other_mail(mailing, mail_server):
    server = mail_server()
    services = mailing(to(server))
    server.hold_after(0)
    ask(services.auth, 1)
    until(lambda: server.held, "the server has the mail and does not answer")
    server.room = math.inf
    ask(services.auth, 2)
    until(lambda: len(server.accepted) == 2, "the mails that nothing holds up", seconds=5)
    server.release()
    server.gets(3)


def test_an_answer_that_quotes_the_mail_tells_the_log_no_code(mailing, mail_server):
    server = mail_server()

    def refuse(message_id, _):
        [mail] = [mail for mail in server.received if mail.id == message_id]
        return f"554 5.7.1 blocked: {mail.link} {mail.code}"

    server.answer = refuse
    services = mailing(to(server))
    ask(services.auth, 1)
    wait_for_failures(services, 1)
    mail = server.received[0]
    for secret in [mail.code, mail.linked["code"]]:
        assert secret not in services.deployment.standalone.log()


# --- Injection ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("firstName", "Ann\r\nBcc: evil@example.com"),
        ("lastName", "Ann\nBcc: evil@example.com"),
        ("login", "ann\r\nBcc: evil@example.com"),
        ("login", "<ann>"),
        ("email", "ann@example.com\r\nBcc: evil@example.com"),
        ("email", "ann@example.com\r\nRCPT TO:<evil@example.com>"),
        ("email", "ann@example.com,evil@example.com"),
        ("email", "Ann <ann@example.com>"),
        ("email", '"ann\r\nBcc: evil"@example.com'),
        ("email", "ann@example.com>"),
        ("email", "ann@[127.0.0.1]"),
    ],
)
def test_hostile_names_are_refused(gateway, field, value):
    passwords = {"password": PASSWORD, "passwordConfirmation": PASSWORD}
    fields = {"login": "hostile", "email": "hostile@example.com", **passwords, field: value}
    wrong = re.sub("[A-Z]", lambda found: f"_{found[0].lower()}", field)
    refusal = gateway.grpc("auth").refusal(f"{AUTH}/Register", fields)
    assert refusal == ("INVALID_ARGUMENT", "authz.v1/FIELDS_INVALID", [wrong])


def test_hostile_names_that_are_no_fault_change_no_mail(mailing, mail_server):
    server = mail_server()
    services = mailing(to(server))
    hostile = [
        "{{ code }}{% for x in range(9) %}",
        "<img src=x onerror=alert(1)>",
        '"; Bcc: evil@example.com',
        "=?utf-8?q?Bcc=3A_evil=40example.com?=",
        "%0d%0aBcc: evil@example.com",
        ".",
    ]
    logins = [register(services.auth, firstName=name, lastName=name) for name in hostile]
    for login in logins:
        request_reset(services.auth, login)
    mails = by_address(server.gets(len(hostile)))
    assert mails.keys() == {f"{login}@example.com" for login in logins}
    for address, mail in mails.items():
        assert (mail["To"], mail["From"]) == (address, SENDER)
        assert sorted(mail.message.keys()) == sorted(HEADERS)
        for word in ["evil", "onerror", "range("]:
            assert word not in mail.message.as_string()


def test_line_breaks_in_an_identifier_are_refused(own_gateway, mail_server):
    server = mail_server()
    gateway = own_gateway(standalone=to(server))
    login = gateway.register()["user"]["login"]
    for separator in ["\r\n", "\n", "\r", "\0"]:
        fields = {"identifier": f"{login}{separator}Bcc: evil@example.com"}
        refusal = gateway.grpc("auth").refusal(f"{AUTH}/RequestPasswordReset", fields)
        assert refusal == ("INVALID_ARGUMENT", "authz.v1/FIELDS_INVALID", ["identifier"])
        answer = gateway.rest().post("/v1/auth/request-password-reset", json=fields)
        assert (answer.status_code, api.reason(answer.json()["details"])) == (400, "FIELDS_INVALID")
    # White space around it is ignored.
    request_reset(gateway.grpc("auth"), f"\r\n {login}\r\n")
    [mail] = server.gets(1)
    assert sorted(mail.message.keys()) == sorted(HEADERS)
    assert mail.linked["identifier"] == f"{login}@example.com"


def test_headers_of_a_request_do_not_change_the_link(own_gateway, mail_server):
    server = mail_server()
    gateway = own_gateway(standalone=to(server))
    login = gateway.register()["user"]["login"]
    evil = "evil.example"
    headers = {"host": evil, "x-forwarded-host": evil, "x-host": evil, "x-original-host": evil}
    headers |= {"forwarded": f"host={evil};proto=http", "x-forwarded-proto": "http", "x-forwarded-port": "666"}
    headers |= {"referer": f"https://{evil}/", "origin": f"https://{evil}", "x-original-url": f"https://{evil}/"}
    asked = gateway.rest().post("/v1/auth/request-password-reset", json={"identifier": login}, headers=headers)
    assert asked.status_code == 200, asked.text
    [mail] = server.gets(1)
    assert mail.link.startswith(f"{PUBLIC_URL}#reset-password?")
    assert mail.html_links == [mail.link]
    assert evil not in mail.message.as_string() + mail.text + mail.html


# --- Kills --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "rounds"), [(signal.SIGKILL, KILL_ROUNDS), (signal.SIGTERM, 1)], ids=["killed", "stopped"]
)
def test_no_mail_is_lost_when_the_service_ends_while_it_sends(mailing, mail_server, number, rounds):
    server = mail_server()
    services = mailing(to(server))
    count = 12
    for turn in range(1, rounds + 1):
        # Some mails are accepted. Some are held, so the service does not learn that they arrived.
        # Others wait in the service for their turn.
        server.hold_after(random.randrange(count))
        ask(services.auth, count)
        until(lambda: server.held, "the server holds a mail")
        # This request still waits when the service ends.
        ask(services.auth, 1)
        ended = services.deployment.standalone.stop(number)
        assert ended == (0 if number == signal.SIGTERM else -number)
        server.release()
        # The mails that the service had taken are tried again once their lease has ended.
        services.deployment.environment = ahead(6 * turn)
        services.start()
        server.gets(turn * (count + 1))
    assert_duplicates_are_the_same(server)


def assert_duplicates_are_the_same(server):
    """Mails with the same Message-ID have the same recipient and the same code."""
    by_id = collections.defaultdict(set)
    for mail in server.received:
        by_id[mail.id].add((*mail.recipients, mail["Date"], mail.code, mail.link))
    assert all(len(contents) == 1 for contents in by_id.values()), by_id
    # The other way round, no user got a second mail under another Message-ID.
    assert len(set().union(*by_id.values())) == len(by_id)


def test_another_replica_sends_the_mails_of_one_that_was_killed(tmp_path, shared_postgres, mail_server):
    name = f"mail_{uuid.uuid4().hex}"
    server = mail_server()
    urls = [shared_postgres.database(name), f"sqlite:{tmp_path / 'game.db'}"]
    deployment = Replicas(tmp_path, urls, auth=to(server))
    try:
        deployment.begin()
        killed, other = deployment.auth
        client = api.Client(grpc.insecure_channel(killed.start().grpc))
        server.hold_after(4)
        ask(client, 12)
        until(lambda: server.held == 8, "the server holds the others")
        # The other replica sends new mails, and none of those that the first one is sending.
        client = api.Client(grpc.insecure_channel(other.start().grpc))
        server.room = 3
        ask(client, 3)
        server.gets(7)
        assert len(server.accepted) == 7, "none was sent twice"
        killed.stop(signal.SIGKILL)
        server.release()
        # The lease of the killed replica has ended.
        shared_postgres.sql(name, "UPDATE mail_outbox SET attempt_time = attempt_time - interval '5 minutes'")
        server.gets(15)
        assert_duplicates_are_the_same(server)
    finally:
        deployment.stop()


def test_two_replicas_send_each_mail_once(tmp_path, shared_postgres, mail_server):
    server = mail_server()
    urls = [shared_postgres.database(f"mail_{uuid.uuid4().hex}"), f"sqlite:{tmp_path / 'game.db'}"]
    deployment = Replicas(tmp_path, urls, auth=to(server))
    try:
        deployment.begin()
        clients = [api.Client(grpc.insecure_channel(replica.start().grpc)) for replica in deployment.auth]
        for _ in range(10):
            for client in clients:
                ask(client, 2)
        server.gets(40)
        # Whatever the replicas may still do, they have done before these.
        ask(clients[0], 1)
        server.gets(41)
        assert len(server.received) == 41
    finally:
        deployment.stop()


# --- Bad settings -------------------------------------------------------------------------------


SECRET = "hunter2"
URL = ["--smtp-url", "smtps://ann@mail.example.com"]
FROM = ["--mail-from", "no-reply@example.com"]
# Each with the setting that the program names.
BAD_SETTINGS = {
    "password in the URL": (["--smtp-url", f"smtps://ann:{SECRET}@mail.example.com", *FROM], "--smtp-url"),
    "password and no port": (["--smtp-url", f"smtps://ann:{SECRET}@mail.example.com:port", *FROM], "--smtp-url"),
    "password and bad TLS": (["--smtp-url", f"smtp://ann:{SECRET}@mail.example.com?tls=maybe", *FROM], "--smtp-url"),
    "bad TLS": (["--smtp-url", "smtp://mail.example.com?tls=maybe", *FROM], "--smtp-url"),
    "no URL of SMTP": (["--smtp-url", "http://mail.example.com", *FROM], "--smtp-url"),
    "no sender": (URL, "--mail-from"),
    "sender without address": ([*URL, "--mail-from", "My Game"], "--mail-from"),
    "sender with another header": ([*URL, "--mail-from", "a@example.com\r\nBcc: b@example.com"], "--mail-from"),
    "file as folder": (["--mail-folder", "private"], "--mail-folder private: must be a folder"),
    "server and folder": ([*URL, *FROM, "--mail-folder", "mails"], "--mail-folder"),
    "script as page": ([*URL, *FROM, "--public-url", "javascript:alert(1)"], "--public-url"),
    "page with fragment": ([*URL, *FROM, "--public-url", "https://play.example.com/#page"], "--public-url"),
    "missing password file": ([*URL, *FROM, "--smtp-password-file", "nowhere"], "--smtp-password-file"),
    "readable password file": ([*URL, *FROM, "--smtp-password-file", "readable"], "--smtp-password-file"),
    "empty password file": ([*URL, *FROM, "--smtp-password-file", "empty"], "--smtp-password-file"),
    "password without user": (
        ["--smtp-url", "smtps://mail.example.com", *FROM, "--smtp-password-file", "private"],
        "--smtp-password-file",
    ),
    "password without server": (["--smtp-password-file", "private"], "--smtp-url"),
    "missing templates": ([*URL, *FROM, "--mail-templates", "nowhere"], "--mail-templates"),
    "incomplete language": ([*URL, *FROM, "--mail-templates", "incomplete"], "de/invitation.html, de/email_verification.txt"),
    "broken template": ([*URL, *FROM, "--mail-templates", "templates"], "--mail-templates"),
}


@pytest.mark.parametrize(("arguments", "complaint"), BAD_SETTINGS.values(), ids=BAD_SETTINGS.keys())
def test_a_bad_setting_is_named_and_no_secret_is(tmp_path, arguments, complaint):
    for file in ["auth-secret", "private", "empty"]:
        write_secret(tmp_path / file, "" if file == "empty" else SECRET * 8)
    (tmp_path / "readable").write_text(SECRET)
    (tmp_path / "readable").chmod(0o644)
    for language in ["templates/en", "incomplete/de"]:
        (tmp_path / language).mkdir(parents=True)
    (tmp_path / "incomplete" / "de" / "password_reset.txt").write_text("Betreff\n\nText\n")
    (tmp_path / "templates" / "en" / "password_reset.txt").write_text("Subject\n\n{{ cod }}\n")
    command = [PROGRAMS / "auth-service", "serve", "--database-url", "sqlite:auth.db", "--auth-secret-file"]
    command += ["auth-secret", "--auth-listen", "127.0.0.1:0", "--auth-http-listen", "127.0.0.1:0", *arguments]
    done = subprocess.run(command, cwd=tmp_path, env={}, capture_output=True, text=True, timeout=8)
    output = done.stdout + done.stderr
    assert done.returncode == 64, output
    assert any(complaint in line for line in output.splitlines()), output
    assert SECRET not in output
