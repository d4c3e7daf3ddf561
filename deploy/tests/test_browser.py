"""The page to play on and the pages about the API, in a real Chromium."""

import base64
import json
import re
import time
import uuid

import pytest
from conftest import PASSWORD, executable
from playwright.sync_api import expect, sync_playwright

import api

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
# Milliseconds.
EXPECT = 10_000


@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as playwright:
        expect.set_options(timeout=EXPECT)
        browser = playwright.chromium.launch(executable_path=executable("chromium", "chromium"), args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def person(chromium, gateway):
    """Makes people: each with a browser of their own, at the page. What a page calls elsewhere, or logs as an error, fails the test."""
    contexts, faults = [], []

    def make(path="/", **options):
        context = chromium.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        watch(page)
        page.goto(gateway.origin + path)
        if path == "/":
            # It asks first whether somebody is logged in.
            expect(page.locator("#entry")).to_be_visible()
        return page

    def watch(page):
        page.on("pageerror", lambda error: faults.append(str(error)))
        # One that the page's content security policy stops has no response.
        page.on("response", lambda response: response.url.startswith((gateway.origin, "data:", "blob:")) or faults.append(response.url))

    make.watch = watch
    yield make
    for context in contexts:
        context.close()
    assert faults == []


def register(page):
    login = f"b{uuid.uuid4().hex[:8]}"
    form = page.locator("#register-form")
    form.get_by_label("Login").fill(login)
    form.get_by_label("E-mail address").fill(f"{login}@example.com")
    form.get_by_label("Password").fill(PASSWORD)
    form.get_by_role("button").click()
    expect(page.locator("#login-name")).to_have_text(login)
    return login


def cell(page, number):
    return page.locator("#board button").nth(number)


def refresh_cookie(page):
    [cookie] = [each for each in page.context.cookies() if each["name"].endswith("refresh_token")]
    return cookie


def everything_that_script_can_see(page):
    stored = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, document.documentElement.outerHTML])")
    databases = page.evaluate("indexedDB.databases()")
    assert databases == []
    return stored


def test_two_people_play_each_other_to_the_end(person):
    ann, bob = person(), person()
    ann_login, bob_login = register(ann), register(bob)
    ann.get_by_role("button", name="Open a game for a friend").click()
    expect(ann.locator("#turn")).to_have_text("Waiting for somebody to join …")
    bob.locator("#open-games li", has_text=ann_login).get_by_role("button", name="Join").click()
    # The marks are drawn by lot.
    expect(ann.locator("#game-title")).to_contain_text(f"against {bob_login}")
    first, second = (ann, bob) if "(X)" in ann.locator("#game-title").text_content() else (bob, ann)
    for turn, number in enumerate([0, 3, 1, 4, 2]):
        mover, other = [(first, second), (second, first)][turn % 2]
        expect(mover.locator("#turn")).to_have_text("Your turn.")
        cell(mover, number).click()
        expect(cell(other, number)).to_have_text("XO"[turn % 2])
    expect(first.locator("#turn")).to_contain_text("You have won!")
    expect(second.locator("#turn")).to_have_text("You have lost.")
    first.get_by_role("button", name="Back to the games").click()
    expect(first.locator("#history li").first).to_contain_text("won")
    first_login = ann_login if first is ann else bob_login
    expect(first.locator("#leaderboard tr.me")).to_contain_text(first_login)


def test_the_refresh_token_is_never_visible_to_script(person):
    page = person()
    bodies = []
    page.on("response", lambda response: "/v1/auth/" in response.url and bodies.append(response))
    register(page)
    cookie = refresh_cookie(page)
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/v1/auth")
    assert cookie["value"].startswith("v1.")
    seen = everything_that_script_can_see(page) + "".join(response.text() for response in bodies)
    assert "accessToken" in seen
    assert cookie["value"] not in seen
    assert "v1." + cookie["value"].split(".")[1] not in seen


def test_each_service_gets_a_token_that_is_good_for_nothing_else(person, gateway):
    page = person()
    used = {}

    def note(request):
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        if bearer:
            claims = bearer.split(".")[1]
            audience = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["aud"]
            used.setdefault(audience, {})[request.url.removeprefix(gateway.origin).split("?")[0]] = bearer

    page.on("request", note)
    login = register(page)
    page.get_by_role("button", name="Play the computer").click()
    expect(page.locator("#turn")).to_have_text("Your turn.")
    page.reload()
    expect(page.locator("#login-name")).to_have_text(login)
    assert set(used) == {"auth-service", "game-service"}
    assert all(path.startswith("/v1/me") for path in used["auth-service"]), used
    assert not any(path.startswith("/v1/me") for path in used["game-service"]), used
    # The token for the games cannot be used to change the account.
    stolen = next(iter(used["game-service"].values()))
    answer = gateway.rest(stolen).post("/v1/auth/revoke-all", json={})
    assert (answer.status_code, api.reason(answer.json()["details"])) == (401, "TOKEN_INVALID")


def test_a_reload_logs_in_by_the_cookie_and_replaces_it(person):
    page = person()
    login = register(page)
    before = refresh_cookie(page)["value"]
    page.reload()
    expect(page.locator("#login-name")).to_have_text(login)
    assert refresh_cookie(page)["value"] != before
    assert "eyJ" not in everything_that_script_can_see(page), "no access token outlives the page"


def test_many_tabs_renew_one_at_a_time_and_log_out_together(person):
    page = person()
    login = register(page)
    tabs = [page]
    for _ in range(4):
        tab = page.context.new_page()
        person.watch(tab)
        tabs.append(tab)
    refused, under_way, at_once = [], set(), []

    def rotate(route):
        under_way.add(route)
        at_once.append(len(under_way))
        answer = route.fetch()
        # Before a tab has the answer. That a request has finished is told by each tab on a channel of its own, and may
        # come after the next tab's word that it has begun one.
        under_way.remove(route)
        route.fulfill(response=answer)

    page.context.route("**/v1/auth/rotate", rotate)
    for tab in tabs:
        tab.on("response", lambda response: response.status >= 400 and refused.append((response.url, response.status)))
    for _ in range(3):
        # All at once: nobody waits for the load of the one before.
        for tab in tabs:
            tab.evaluate(f"setTimeout(() => location.href = '{page.url}?{uuid.uuid4()}')")
        for tab in tabs:
            tab.wait_for_url(re.compile(r"\?"))
            expect(tab.locator("#login-name")).to_have_text(login)
    assert refused == [], "no rotation met another"
    assert len(at_once) == 15 and set(at_once) == {1}, at_once
    tabs[2].get_by_role("button", name="Log out").click()
    for tab in tabs:
        expect(tab.locator("#entry")).to_be_visible()
        # By word from the other tab, not by being refused.
        expect(tab.locator("#message")).to_have_text("You are logged out.")
    assert [each for each in page.context.cookies() if each["name"].endswith("refresh_token")] == []
    page.reload()
    expect(page.locator("#entry")).to_be_visible()


def test_an_access_token_that_has_expired_is_renewed_without_a_word(person, gateway):
    page = person()
    register(page)
    answers = []
    page.on("response", lambda response: answers.append((response.url.removeprefix(gateway.origin), response.status)))
    # Roles change, so the token is stale; the session lives.
    user_id = find(gateway, page.locator("#login-name").text_content())
    root = gateway.rest(gateway.administrator())
    role = f"role_{uuid.uuid4().hex[:8]}"
    assert root.post("/v1/roles", json={"codeName": role}).status_code == 200
    assert root.post(f"/v1/users/{user_id}:assignRole", json={"role": role}).status_code == 200
    page.get_by_role("button", name="Play the computer").click()
    expect(page.locator("#turn")).to_have_text("Your turn.")
    assert ("/v1/auth/rotate", 200) in answers


def find(gateway, login):
    [user] = gateway.rest(gateway.administrator()).get("/v1/users", params={"query": login}).json()["users"]
    return user["userId"]


@pytest.mark.parametrize("at", ["the lobby", "a game", "the end of a game"])
def test_who_is_logged_out_elsewhere_is_thrown_out_within_a_second(person, gateway, at):
    page = person()
    user_id = find(gateway, register(page))
    if at != "the lobby":
        page.get_by_role("button", name="Open a game for a friend").click()
        expect(page.locator("#turn")).to_have_text("Waiting for somebody to join …")
    if at == "the end of a game":
        page.get_by_role("button", name="Call it off").click()
        expect(page.locator("#turn")).to_have_text("The game was called off.")
    root = gateway.rest(gateway.administrator())
    # On the page's own clock, since this one's polling takes time as well.
    page.evaluate("new MutationObserver(() => { window.thrownOut ??= document.querySelector('#entry').hidden ? undefined : Date.now() }).observe(document.body, {subtree: true, attributes: true})")
    assert root.post(f"/v1/users/{user_id}:deactivate", json={}).status_code == 200
    acknowledged = time.time() * 1000
    expect(page.locator("#entry")).to_be_visible()
    expect(page.locator("#message")).to_have_text("You were logged out.")
    assert page.evaluate("window.thrownOut") - acknowledged < 1000


def test_a_logout_that_did_not_happen_is_not_said_to_have(person):
    page = person()
    login = register(page)
    page.route("**/v1/auth/logout", lambda route: route.abort())
    page.get_by_role("button", name="Log out").click()
    expect(page.locator("#message")).to_have_text("The server cannot be reached.")
    expect(page.locator("#login-name")).to_have_text(login)
    page.unroute("**/v1/auth/logout")
    page.get_by_role("button", name="Log out").click()
    expect(page.locator("#message")).to_have_text("You are logged out.")
    page.reload()
    expect(page.locator("#entry")).to_be_visible()


def test_a_rotation_whose_answer_is_lost_is_made_again_with_the_same_id(person):
    """Also where the next answer is that there are too many: the session would end as a theft otherwise."""
    page = person()
    login = register(page)
    ids = []

    def lose(route):
        ids.append(route.request.post_data_json["requestId"])
        if len(ids) == 1:
            # Made, but the answer does not arrive: the cookie stays the old one.
            cookies = page.context.cookies()
            route.fetch()
            page.context.clear_cookies()
            page.context.add_cookies(cookies)
            route.abort()
        elif len(ids) == 2:
            route.fulfill(status=429, json={"code": 8, "message": "too many requests", "details": []})
        else:
            route.continue_()

    page.route("**/v1/auth/rotate", lose)
    page.reload()
    expect(page.locator("#login-name")).to_have_text(login)
    assert len(ids) == 3 and len(set(ids)) == 1


def test_another_user_in_another_tab_ends_this_one(person):
    page = person()
    login = register(page)
    other = page.context.new_page()
    person.watch(other)
    other.goto(page.url)
    expect(other.locator("#login-name")).to_have_text(login)
    other.get_by_role("button", name="Log out").click()
    expect(page.locator("#entry")).to_be_visible()
    second = register(other)
    expect(other.locator("#history")).to_have_text("No finished game yet.")
    # The first tab logs the first one in again: the second tab is out.
    form = page.locator("#login-form")
    form.get_by_label("Login or e-mail").fill(login)
    form.get_by_label("Password").fill(PASSWORD)
    form.get_by_role("button").click()
    expect(page.locator("#login-name")).to_have_text(login)
    expect(other.locator("#message")).to_have_text("Somebody else has logged in in this browser.")
    assert second != login


def test_all_of_it_works_by_keyboard_on_a_narrow_screen(person):
    page = person(viewport={"width": 320, "height": 640})
    login = f"k{uuid.uuid4().hex[:8]}"
    page.locator("#register-form [name=login]").focus()
    for text in [login, f"{login}@example.com", PASSWORD]:
        page.keyboard.type(text)
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#login-name")).to_have_text(login)
    assert fits(page)
    press_until_focused(page, "#play-computer")
    page.keyboard.press("Enter")
    expect(page.locator("#turn")).to_have_text("Your turn.")
    assert fits(page)
    press_until_focused(page, "#board button")
    while page.locator("#turn").text_content() == "Your turn.":
        # The first free cell, by the arrow keys alone.
        at = int(page.evaluate("[...document.querySelectorAll('#board button')].indexOf(document.activeElement)"))
        free = [each.text_content() for each in page.locator("#board button").all()].index("")
        while at != free:
            key, at = step(at, free)
            page.keyboard.press(key)
        count = page.locator("#board button:not(:empty)").count()
        page.keyboard.press("Enter")
        expect(page.locator("#board button:not(:empty)")).not_to_have_count(count)
    expect(page.locator("#turn")).to_have_text(re.compile("You have lost|A draw"))
    assert page.evaluate("document.activeElement.closest('#board') !== null"), "the focus is where it was"


def step(at, to):
    if at // 3 != to // 3:
        return ("ArrowDown", at + 3) if to // 3 > at // 3 else ("ArrowUp", at - 3)
    return ("ArrowRight", at + 1) if to > at else ("ArrowLeft", at - 1)


def fits(page):
    return page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def press_until_focused(page, selector):
    for _ in range(40):
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"{selector} is not reached by the Tab key")


def test_what_is_wrong_is_said(person):
    page = person()
    page.locator("#register-form").get_by_label("Login").fill("a")
    page.locator("#register-form").get_by_role("button").click()
    for words in ["login must be 3 to 32", "email is required", "password is required"]:
        expect(page.locator("#message")).to_contain_text(words)
    page.locator("#login-form").get_by_label("Login or e-mail").fill("nobody")
    page.locator("#login-form").get_by_label("Password").fill("wrong password")
    page.locator("#login-form").get_by_role("button").click()
    expect(page.locator("#message")).to_have_text("the login, e-mail address or password is wrong.")


def test_in_swagger_ui_one_authorizes_and_then_tries_a_call(person, gateway):
    page = person("/docs")
    login = gateway.register()
    page.get_by_role("button", name="Authorize").first.click()
    dialog = page.locator(".modal-ux")
    dialog.locator("input").first.fill(login["tokens"]["accessToken"])
    dialog.get_by_role("button", name="Apply credentials").first.click()
    dialog.get_by_role("button", name="Close").first.click()
    operation = page.locator("#operations-AccountService-AccountService_GetMe")
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Try it out").click()
    operation.get_by_role("button", name="Execute").click()
    expect(operation.locator(".live-responses-table td.response-col_status").last).to_contain_text("200")
    expect(operation.locator(".live-responses-table")).to_contain_text(login["user"]["login"])


def test_redoc_shows_the_document_and_calls_no_other_host(person):
    page = person("/redoc")
    expect(page.get_by_role("heading", name=re.compile("Identity and games"))).to_be_visible()
    expect(page.get_by_role("menuitem", name="AuthService")).to_be_visible()
    expect(page.get_by_role("heading", name="Creates a user with the role")).to_be_attached()


def test_on_the_http_port_swagger_ui_calls_the_gateway(chromium, own_gateway):
    """As after `cargo run` with the gateway beside it, but for the ports."""
    gateway = own_gateway()
    gateway.standalone.stop()
    gateway.arguments += ["--gateway-url", gateway.origin]
    gateway.envoy.stop()
    gateway.gateway_arguments += ["--origins", f"http://{gateway.at('auth_http')}"]
    gateway.start()
    page = chromium.new_page()
    page.goto(f"http://{gateway.at('auth_http')}/docs")
    operation = page.locator("#operations-AccountService-AccountService_GetClientAddress")
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Try it out").click()
    operation.get_by_role("button", name="Execute").click()
    expect(operation.locator(".live-responses-table td.response-col_status").last).to_contain_text("200")
    page.close()
