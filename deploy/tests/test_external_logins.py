"""Logins with an identity provider that is not ours: npm's oidc-provider on loopback, and the example page in Chromium."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import uuid

import identity_provider
import pytest
from conftest import HERE, PASSWORD, Program, until
from playwright.sync_api import expect
from ports import free_ports
from test_browser import chromium, log_in, open_account, register  # noqa: F401

import api

FOLDER = HERE / "oidc-provider"
BIN = pathlib.Path(sys.executable).parent


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """The provider with its dependencies, at the versions and hashes of package-lock.json."""
    folder = tmp_path_factory.mktemp("oidc-provider")
    for name in ["package.json", "package-lock.json", "server.mjs"]:
        shutil.copy(FOLDER / name, folder)
    environment = {"PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(folder)}
    environment |= {name: value for name, value in os.environ.items() if name.lower().startswith("npm_config_")}
    command = ["npm", "ci", "--silent", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


class External:
    """A deployment whose users can log in with the provider."""

    def __init__(self, packages, own_gateway, tmp_path):
        [port] = free_ports(1)
        self.issuer = f"http://127.0.0.1:{port}"
        entry = {
            **{"name": "example", "display_name": "Example ID", "issuer": self.issuer, "audiences": ["page"], "web_client_id": "page"},
            **{"algorithms": ["RS256"], "trusts_email": True, "allow_private_addresses": True},
        }
        self.gateway = own_gateway(
            standalone=identity_provider.settings(tmp_path, entry), gateway=["--identity-providers", self.issuer]
        )
        command = [BIN / "node", packages / "server.mjs", port, f"{self.gateway.origin}/"]
        self.provider = Program(command, tmp_path / "oidc-provider.log")
        self.provider.ready(f"{self.issuer}/.well-known/openid-configuration")


@pytest.fixture
def external(packages, own_gateway, tmp_path):
    made = External(packages, own_gateway, tmp_path)
    yield made
    made.provider.stop()


@pytest.fixture
def page(chromium, external):  # noqa: F811
    context = chromium.new_context()
    page = context.new_page()
    faults = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(external.gateway.origin)
    expect(page.get_by_role("button", name="Log in with Example ID")).to_be_visible()
    yield page
    context.close()
    assert faults == []


def at_the_provider(page, external, subject):
    """Logs in at the provider, and allows it to tell the page who the user is."""
    page.wait_for_url(re.compile(re.escape(external.issuer)))
    page.locator("[name=login]").fill(subject)
    page.locator("[name=password]").fill("anything")
    page.locator("button[type=submit]").click()
    # The provider asks once for each session of its own.
    until(lambda: page.url.startswith(external.gateway.origin) or page.get_by_role("button", name="Continue").is_visible(), "a way on")
    if not page.url.startswith(external.gateway.origin):
        page.get_by_role("button", name="Continue").click()
    page.wait_for_url(re.compile(re.escape(external.gateway.origin)))


def new_subject():
    return f"s{uuid.uuid4().hex[:8]}"


def test_a_user_logs_in_with_the_provider_and_comes_back(page, external):
    subject = new_subject()
    page.get_by_role("button", name="Log in with Example ID").click()
    at_the_provider(page, external, subject)
    expect(page.locator("#login-name")).to_contain_text("player-")
    login = page.locator("#login-name").text_content()
    # Neither the code nor the ID token stays in the address or in the browser.
    assert page.url == f"{external.gateway.origin}/"
    stored = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")
    assert "eyJ" not in stored and "verifier" not in stored
    open_account(page)
    expect(page.locator("#account-email")).to_have_text(f"{subject}@example.com, confirmed")
    expect(page.locator("#identities li")).to_have_count(1)
    page.get_by_role("button", name="Log out", exact=True).click()
    page.get_by_role("button", name="Log in with Example ID").click()
    page.wait_for_url(f"{external.gateway.origin}/")
    expect(page.locator("#login-name")).to_have_text(login)


def test_a_user_links_the_provider_to_an_account_from_before_and_unlinks_it(page, external):
    page.on("dialog", lambda dialog: dialog.accept())
    login = register(page)
    open_account(page)
    page.get_by_role("button", name="Link a login with Example ID").click()
    at_the_provider(page, external, new_subject())
    expect(page.locator("#message")).to_have_text("The login is linked. From now on, it opens this account.")
    page.get_by_role("button", name="Log out", exact=True).click()
    page.get_by_role("button", name="Log in with Example ID").click()
    expect(page.locator("#login-name")).to_have_text(login)
    open_account(page)
    page.get_by_role("button", name="Unlink the login with Example ID").click()
    expect(page.locator("#message")).to_have_text("The login with Example ID is unlinked.")
    expect(page.locator("#identities li")).to_have_count(0)


def test_an_address_that_is_taken_leads_to_a_login_and_an_offer(page, external):
    asked = []
    page.on("dialog", lambda dialog: (asked.append(dialog.message), dialog.accept()))
    login = new_subject()
    external.gateway.register(login)
    page.get_by_role("button", name="Log in with Example ID").click()
    at_the_provider(page, external, login)
    expect(page.locator("#message")).to_contain_text("There is an account with this e-mail address already.")
    expect(page.locator("#entry")).to_be_visible()
    assert asked == []
    log_in(page, login)
    expect(page.locator("#message")).to_have_text("The login is linked. From now on, it opens this account.")
    assert asked == [f"Link your login with Example ID to the account {login}?"]


def test_a_user_without_a_password_sets_one_and_deletes_the_account(page, external):
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Log in with Example ID").click()
    at_the_provider(page, external, new_subject())
    open_account(page)
    expect(page.locator("#password-current")).to_be_hidden()
    page.locator("#password-new").fill(PASSWORD)
    page.get_by_role("button", name="Change the password").click()
    expect(page.locator("#message")).to_contain_text("Your password is changed.")
    login = page.locator("#login-name").text_content()
    answer = external.gateway.rest().post("/v1/auth/login", json={"identifier": login, "password": PASSWORD})
    assert answer.status_code == 200, answer.text


def test_a_guest_keeps_the_account_with_the_provider(page, external):
    page.get_by_role("button", name="Play as a guest").click()
    expect(page.locator("#login-name")).to_contain_text("guest-")
    page.get_by_text("Keep this account").first.click()
    page.get_by_role("button", name="Keep this account with Example ID").click()
    at_the_provider(page, external, new_subject())
    expect(page.locator("#message")).to_contain_text("The account is yours.")
    expect(page.locator("#login-name")).to_contain_text("player-")


def test_an_answer_that_the_page_has_not_asked_for_is_ignored(page, external):
    """A thief sends the user a link with a code of their own, so that the user plays in the thief's account."""
    page.goto(f"{external.gateway.origin}/?code=stolen&state=forged")
    expect(page.locator("#entry")).to_be_visible()
    assert page.url == f"{external.gateway.origin}/"


def test_the_gateway_refuses_what_is_not_for_it(external):
    refused = external.gateway.rest().post(
        "/v1/auth/login-with-id-token", json={"provider": "example", "idToken": "a.b.c", "nonce": "n1.x"}
    )
    assert (refused.status_code, api.reason(refused.json()["details"])) == (401, "EXTERNAL_NONCE_INVALID")
