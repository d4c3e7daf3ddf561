"""The page to play on and the pages about the API, in a real Chromium."""

import base64
import collections
import json
import pathlib
import re
import time
import uuid

import pytest
from conftest import PASSWORD, executable, until
from playwright.sync_api import expect, sync_playwright

import api

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
# Milliseconds for which an assertion waits.
EXPECT = 10_000
ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"


@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as playwright:
        expect.set_options(timeout=EXPECT)
        browser = playwright.chromium.launch(executable_path=executable("chromium", "chromium"), args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def person(chromium, gateway):
    """Opens the page in a browser context per person. A request to another site or an error in the console fails the test."""
    contexts, faults = [], []

    def make(path="/", gateway=gateway, clock_is_ours=False, **options):
        context = chromium.new_context(**options)
        contexts.append(context)
        if clock_is_ours:
            context.clock.install()
        page = context.new_page()
        watch(page, gateway)
        page.goto(gateway.origin + path)
        if path == "/":
            # The page first finds out whether a user is logged in.
            expect(page.locator("#entry")).to_be_visible()
        return page

    def watch(page, gateway=gateway):
        page.on("pageerror", lambda error: faults.append(str(error)))
        # A request that the content security policy blocks has no response.
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


def log_in(page, login, password=PASSWORD):
    form = page.locator("#login-form")
    form.get_by_label("Login or e-mail address").fill(login)
    form.get_by_label("Password", exact=True).fill(password)
    form.get_by_role("button").click()


def cell(page, number):
    return page.locator("#board button").nth(number)


def refresh_cookie(page):
    [cookie] = [each for each in page.context.cookies() if each["name"].endswith("refresh_token")]
    return cookie


def visible_to_scripts(page):
    stored = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, document.documentElement.outerHTML])")
    databases = page.evaluate("indexedDB.databases()")
    assert databases == []
    return stored


def test_two_people_play_each_other_to_the_end(person):
    ann, bob = person(), person()
    ann_login, bob_login = register(ann), register(bob)
    ann.get_by_role("button", name="Open a game for another player").click()
    expect(ann.locator("#turn")).to_have_text("Waiting for another player …")
    bob.locator("#open-games li", has_text=ann_login).get_by_role("button", name="Join").click()
    # The marks are random.
    expect(ann.locator("#game-title")).to_contain_text(f"against {bob_login}")
    first, second = (ann, bob) if "(X)" in ann.locator("#game-title").text_content() else (bob, ann)
    for turn, number in enumerate([0, 3, 1, 4, 2]):
        mover, other = [(first, second), (second, first)][turn % 2]
        expect(mover.locator("#turn")).to_have_text("Your turn.")
        cell(mover, number).click()
        expect(cell(other, number)).to_have_text("XO"[turn % 2])
    expect(first.locator("#turn")).to_have_text("You won!")
    expect(second.locator("#turn")).to_have_text("You lost.")
    first.get_by_role("button", name="Back to the games").click()
    expect(first.locator("#history li").first).to_contain_text("You won against")
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
    seen = visible_to_scripts(page) + "".join(response.text() for response in bodies)
    assert "accessToken" in seen
    assert cookie["value"] not in seen
    assert "v1." + cookie["value"].split(".")[1] not in seen


def test_each_service_gets_a_token_that_is_valid_nowhere_else(person, gateway):
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
    assert "eyJ" not in visible_to_scripts(page), "no access token outlives the page"


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
        # Removed before the tab has the answer. Each tab reports its events on a channel of its own, so "request finished"
        # of one tab may arrive after "request started" of the next one.
        under_way.remove(route)
        route.fulfill(response=answer)

    page.context.route("**/v1/auth/rotate", rotate)
    for tab in tabs:
        tab.on("response", lambda response: response.status >= 400 and refused.append((response.url, response.status)))
    for _ in range(3):
        # Reload all tabs at once, without waiting for each other.
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
        # Told by the other tab, not by a refused call.
        expect(tab.locator("#message")).to_have_text("You are logged out.")
    assert [each for each in page.context.cookies() if each["name"].endswith("refresh_token")] == []
    page.reload()
    expect(page.locator("#entry")).to_be_visible()


def test_a_stale_access_token_is_renewed_silently(person, gateway):
    page = person()
    register(page)
    answers = []
    page.on("response", lambda response: answers.append((response.url.removeprefix(gateway.origin), response.status)))
    # Changed roles make the token stale; the session continues.
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
def test_a_user_logged_out_elsewhere_sees_the_login_within_a_second(person, gateway, at):
    page = person()
    user_id = find(gateway, register(page))
    if at != "the lobby":
        page.get_by_role("button", name="Open a game for another player").click()
        expect(page.locator("#turn")).to_have_text("Waiting for another player …")
    if at == "the end of a game":
        page.get_by_role("button", name="Cancel game").click()
        expect(page.locator("#turn")).to_have_text("The game was cancelled.")
    root = gateway.rest(gateway.administrator())
    # Measure with the page's own clock, because polling from here takes time too.
    page.evaluate("new MutationObserver(() => { window.thrownOut ??= document.querySelector('#entry').hidden ? undefined : Date.now() }).observe(document.body, {subtree: true, attributes: true})")
    assert root.post(f"/v1/users/{user_id}:deactivate", json={}).status_code == 200
    acknowledged = time.time() * 1000
    expect(page.locator("#entry")).to_be_visible()
    expect(page.locator("#message")).to_have_text("You were logged out.")
    assert page.evaluate("window.thrownOut") - acknowledged < 1000


def test_a_failed_logout_is_not_reported_as_done(person):
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


def test_a_rotation_with_a_lost_answer_is_retried_with_the_same_id(person):
    """The same id is also used after a refusal by a rate limit. With a new id the session would end as stolen."""
    page = person()
    login = register(page)
    ids = []

    def lose(route):
        ids.append(route.request.post_data_json["requestId"])
        if len(ids) == 1:
            # The rotation is done, but its response is lost, so the old cookie stays.
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


def test_a_login_as_another_user_in_another_tab_ends_this_one(person):
    page = person()
    login = register(page)
    other = page.context.new_page()
    person.watch(other)
    other.goto(page.url)
    expect(other.locator("#login-name")).to_have_text(login)
    other.get_by_role("button", name="Log out").click()
    expect(page.locator("#entry")).to_be_visible()
    second = register(other)
    expect(other.locator("#history")).to_have_text("You have not finished a game yet.")
    # The first tab logs the first user in again, which ends the session in the second tab.
    log_in(page, login)
    expect(page.locator("#login-name")).to_have_text(login)
    expect(other.locator("#message")).to_have_text("Another user has logged in in this browser.")
    assert second != login


def test_the_page_works_by_keyboard_on_a_narrow_screen(person):
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
        # Go to the first free cell with only the arrow keys.
        at = int(page.evaluate("[...document.querySelectorAll('#board button')].indexOf(document.activeElement)"))
        free = [each.text_content() for each in page.locator("#board button").all()].index("")
        while at != free:
            key, at = step(at, free)
            page.keyboard.press(key)
        count = page.locator("#board button:not(:empty)").count()
        page.keyboard.press("Enter")
        expect(page.locator("#board button:not(:empty)")).not_to_have_count(count)
    expect(page.locator("#turn")).to_have_text(re.compile("You lost|A draw"))
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


def test_invalid_fields_are_explained_below_each_field(person):
    page = person()
    form = page.locator("#register-form")
    form.get_by_label("Login").fill("a")
    form.get_by_role("button").click()
    for label, problem in [
        ("Login", "Login must be 3 to 32"),
        ("E-mail address", "E-mail address is required."),
        ("Password", "Password is required."),
    ]:
        field = form.get_by_label(label)
        expect(field).to_have_accessible_description(re.compile(re.escape(problem)))
        expect(field).to_have_attribute("aria-invalid", "true")
        below = form.get_by_text(problem)
        assert 0 <= top(below) - bottom(field) < 60, "the problem is below its field"
    expect(form.get_by_label("Login")).to_be_focused()
    expect(page.locator("#message")).to_be_empty()
    form.get_by_label("Login").fill("ann")
    expect(form.get_by_text("Login must be")).to_have_count(0)
    expect(form.get_by_label("Login")).not_to_have_attribute("aria-invalid", "true")


def test_a_refused_login_is_explained_in_plain_words(person):
    page = person()
    log_in(page, "nobody", "wrong password")
    expect(page.locator("#message")).to_have_text("The login or the password is wrong.")
    retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "41.5s"}
    info = {"@type": ERROR_INFO, "reason": "TOO_MANY_ATTEMPTS", "domain": "auth.v1"}
    many = {"code": 8, "message": "too many attempts", "details": [info, retry]}
    page.route("**/v1/auth/login", lambda route: route.fulfill(status=429, json=many))
    log_in(page, "nobody", "wrong password")
    expect(page.locator("#message")).to_have_text("Too many attempts. Try again in 42 seconds.")


def test_an_error_is_visible_wherever_the_page_is_scrolled_to(person):
    page = person(viewport={"width": 375, "height": 300})
    other = person()
    register(page)
    login = register(other)
    other.get_by_role("button", name="Open a game for another player").click()
    gone = {"code": 5, "message": "no such game", "details": [{"@type": ERROR_INFO, "reason": "GAME_NOT_FOUND", "domain": "game.v1"}]}
    page.route("**:join", lambda route: route.fulfill(status=404, json=gone))
    join = page.locator("#open-games li", has_text=login).get_by_role("button", name="Join")
    join.scroll_into_view_if_needed()
    page.mouse.wheel(0, 10_000)
    join.click()
    expect(page.locator("#message")).to_contain_text("This game is no longer open")
    expect(page.locator("#message")).to_be_in_viewport(ratio=1)


def test_a_temporary_password_is_replaced_at_the_login(person, gateway):
    login = gateway.register()["user"]["login"]
    root = gateway.rest(gateway.administrator())
    temporary, chosen = "temporary secret", "a secret of my own"
    answer = root.post(f"/v1/users/{find(gateway, login)}:setPassword", json={"password": temporary})
    assert answer.status_code == 200, answer.text
    page = person()
    new_password = page.locator("#new-password")
    expect(new_password).to_be_hidden()
    log_in(page, login, temporary)
    expect(page.locator("#message")).to_have_text("Your password is a temporary one. Choose a new password to log in.")
    # It is no mistake of the user's.
    expect(page.locator("#message")).not_to_have_class("error")
    expect(new_password).to_be_focused()
    page.keyboard.press("Enter")
    expect(new_password).to_have_accessible_description(re.compile("New password is required."))
    new_password.fill("short")
    page.keyboard.press("Enter")
    expect(new_password).to_have_accessible_description(re.compile("New password must be 8 to 128 characters."))
    # A new password is only for the account that it was requested for.
    page.get_by_label("Login or e-mail address").fill("another")
    expect(new_password).to_be_hidden()
    expect(new_password).to_have_value("")
    log_in(page, login, temporary)
    new_password.fill(chosen)
    page.keyboard.press("Enter")
    expect(page.locator("#login-name")).to_have_text(login)
    page.get_by_role("button", name="Log out").click()
    expect(new_password).to_be_hidden()
    log_in(page, login, chosen)
    expect(page.locator("#login-name")).to_have_text(login)


def forget(page, login):
    """Requests a code for the user whose login is in the login form."""
    page.locator("#identifier").fill(login)
    page.get_by_role("button", name="Forgot your password?").click()
    expect(page.locator("#recovery-title")).to_be_focused()
    expect(page.locator("#request-identifier")).to_have_value(login)
    page.get_by_role("button", name="Send the code").click()
    expect(page.locator("#message")).to_have_text("If there is such an account, a mail with a code is on its way.")
    expect(page.locator("#reset-identifier")).to_have_value(login)


def test_a_forgotten_password_is_replaced_with_the_code_from_the_mail(person, gateway):
    page = person()
    login = register(page)
    page.get_by_role("button", name="Log out").click()
    forget(page, login)
    form = page.locator("#reset-form")
    form.get_by_label("Code from the mail").fill("2222-2222")
    form.get_by_label("New password").fill("purple elephants")
    page.get_by_role("button", name="Set the new password").click()
    expect(page.locator("#message")).to_have_text("The code is wrong, has expired or was used already. Ask for a new one.")
    [code] = re.findall(r"^ +([0-9A-Z]{4}-[0-9A-Z]{4})$", gateway.mail_to(f"{login}@example.com"), re.M)
    form.get_by_label("Code from the mail").fill(code.lower().replace("-", " "))
    page.get_by_role("button", name="Set the new password").click()
    expect(page.locator("#login-name")).to_have_text(login)
    expect(page.locator("#message")).to_have_text(f"Your new password is set, and you are logged in as {login}. All other devices are logged out.")
    assert "was changed" in gateway.mail_to(f"{login}@example.com", count=2)


def test_an_invited_user_chooses_a_password(person, gateway):
    login = f"i{uuid.uuid4().hex[:12]}"
    account = {"login": login, "email": f"{login}@example.com"}
    invited = gateway.rest(gateway.administrator()).post("/v1/users:invite", json=account)
    assert invited.status_code == 200, invited.text
    mail = gateway.mail_to(f"{login}@example.com")
    assert f"Your login is {login}." in mail
    [link] = re.findall(r"^http\S+$", mail, re.M)
    page = person(link.replace("http://127.0.0.1:8080", ""))
    expect(page.get_by_role("heading", name="Choose a password")).to_be_visible()
    expect(page).to_have_title("Choose a password – Tic-tac-toe")
    expect(page.locator("#invited")).to_contain_text(f"You have an account with the login {login}.")
    expect(page.locator("#reset-identifier")).to_have_value(login)
    assert page.evaluate("location.href") == f"{gateway.origin}/"
    page.locator("#reset-form").get_by_label("Password", exact=True).fill("purple elephants")
    page.get_by_role("button", name="Choose this password").click()
    expect(page.locator("#login-name")).to_have_text(login)
    expect(page.locator("#message")).to_have_text(f"Welcome, {login}. Your password is set, and you are logged in.")
    expect(page).to_have_title("Tic-tac-toe")


def test_a_link_from_a_mail_changes_nothing_by_itself_and_stays_out_of_the_history(person, gateway):
    page = person()
    login = register(page)
    page.get_by_role("button", name="Log out").click()
    forget(page, login)
    [link] = re.findall(r"^http\S+$", gateway.mail_to(f"{login}@example.com"), re.M)
    link = link.replace("http://127.0.0.1:8080", gateway.origin)
    for _ in range(2):
        # A mail scanner opens the link too.
        other = person(link.removeprefix(gateway.origin))
        expect(other.locator("#reset-identifier")).to_have_value(f"{login}@example.com")
        assert other.evaluate("location.href") == f"{gateway.origin}/"
    code = link.partition("code=")[2]
    expect(other.locator("#reset-code")).to_have_value(code)
    expect(other.locator("#reset-password")).to_be_focused()
    expect(other).to_have_title("Choose a new password – Tic-tac-toe")
    expect(other.locator("#invited")).to_be_hidden()
    other.locator("#reset-password").fill("short")
    other.get_by_role("button", name="Set the new password").click()
    expect(other.locator("#reset-password-problem")).to_have_text("New password must be 8 to 128 characters.")
    other.locator("#reset-password").fill("purple elephants")
    other.get_by_role("button", name="Set the new password").click()
    expect(other.locator("#login-name")).to_have_text(login)
    assert code not in visible_to_scripts(other)


def code_in(mail):
    """Returns the short code of a mail."""
    [code] = re.findall(r"^ +([0-9A-Z]{4}-[0-9A-Z]{4})$", mail, re.M)
    return code


def link_in(mail, gateway):
    """Returns the path of the link in a mail."""
    [link] = re.findall(r"^http\S+$", mail, re.M)
    return link.removeprefix("http://127.0.0.1:8080")


def confirm(page, code):
    page.locator("#confirm-code").fill(code)
    page.get_by_role("button", name="Confirm the address").click()


def test_an_address_is_confirmed_changed_and_changed_back(person, gateway):
    page = person()
    login = register(page)
    first, second = f"{login}@example.com", f"{login}@example.org"
    page.get_by_role("button", name="Account", exact=True).click()
    expect(page.locator("#account-title")).to_be_focused()
    expect(page.locator("#account-email")).to_have_text(f"{first}, not confirmed")
    page.get_by_role("button", name="Confirm this address").click()
    expect(page.locator("#message")).to_have_text("A mail with a code is on its way.")
    expect(page.locator("#confirm-code")).to_be_focused()
    expect(page.locator("#confirm-password")).to_be_hidden()
    confirm(page, "2222-2222")
    expect(page.locator("#message")).to_have_text("The code is wrong, has expired or was used already. Ask for a new one.")
    confirm(page, code_in(gateway.mail_to(first, count=2, containing="#verify-email?")))
    expect(page.locator("#account-email")).to_have_text(f"{first}, confirmed")
    page.locator("#new-email").fill("nothing")
    page.locator("#email-password").fill("wrong horse")
    page.get_by_role("button", name="Change the address").click()
    expect(page.locator("#new-email-problem")).to_contain_text("New e-mail address must be an e-mail address")
    page.locator("#new-email").fill(second)
    page.locator("#email-password").fill(PASSWORD)
    page.get_by_role("button", name="Change the address").click()
    expect(page.locator("#message")).to_have_text(f"A mail with a code is on its way to {second}.")
    confirm(page, code_in(gateway.mail_to(second)))
    expect(page.locator("#account-email")).to_have_text(f"{second}, confirmed")
    # The link to the former address undoes the change, in another browser.
    other = person(link_in(gateway.mail_to(first, containing="#revert-email?"), gateway))
    expect(other.locator("#reversal-title")).to_be_visible()
    assert other.evaluate("location.href") == f"{gateway.origin}/"
    expect(other).to_have_title("Undo the change of your e-mail address – Tic-tac-toe")
    other.get_by_role("button", name="Undo the change").click()
    expect(other.locator("#message")).to_contain_text("The change is undone: this is the address of your account again.")
    expect(page.locator("#message")).to_have_text("You were logged out.")
    # It works once. There is no other link to ask for.
    again = person(link_in(gateway.mail_to(first, containing="#revert-email?"), gateway))
    again.get_by_role("button", name="Undo the change").click()
    expect(again.locator("#message")).to_contain_text("This link is wrong, was used already, or is older than 72 hours.")
    expect(again.locator("#message")).to_contain_text("“Forgot your password?”")
    again.get_by_role("button", name="Leave it as it is").click()
    expect(again.locator("#entry-title")).to_be_focused()
    expect(again.locator("#message")).to_be_empty()


def test_a_call_that_needs_a_recent_login_asks_for_the_password_and_goes_on(person, gateway):
    page = person()
    login = register(page)
    page.get_by_role("button", name="Account").click()
    status = {"code": 16, "message": "log in again", "details": [{"@type": ERROR_INFO, "reason": "STEP_UP_REQUIRED", "domain": "authz.v1"}]}
    refused = []

    def refuse_once(route):
        refused.append(route.request.headers["authorization"])
        if len(refused) == 1:
            route.fulfill(status=401, content_type="application/json", body=json.dumps(status))
        else:
            route.continue_()

    # The form that has the password asks for it only once.
    page.route("**/v1/me/email", refuse_once)
    page.locator("#new-email").fill(f"{login}@example.org")
    page.locator("#email-password").fill(PASSWORD)
    page.get_by_role("button", name="Change the address").click()
    expect(page.locator("#message")).to_have_text(f"A mail with a code is on its way to {login}@example.org.")
    assert len(set(refused)) == 2
    # Another call asks in a dialog, which can be left.
    refused.clear()
    page.get_by_role("button", name="Back").click()
    page.route("**/v1/me", refuse_once)
    page.get_by_role("button", name="Account").click()
    expect(page.locator("#step-up-proof")).to_be_focused()
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#message")).to_have_text("This needs another proof that it is you.")
    refused.clear()
    page.get_by_role("button", name="Account").click()
    page.locator("#step-up-proof").fill(PASSWORD)
    page.get_by_role("button", name="Go on").click()
    expect(page.locator("#account-title")).to_be_focused()
    assert len(set(refused)) == 2


def test_a_login_needs_the_app_that_was_added(person):
    page = person()
    login = register(page)
    page.get_by_role("button", name="Account").click()
    expect(page.locator("#factor-count")).to_have_text("A login needs only your password.")
    page.get_by_role("button", name="Add an authenticator app").click()
    expect(page.locator("#factor-code")).to_be_focused()
    secret = page.locator("#factor-secret-text").inner_text()
    page.locator("#factor-code").fill("12345")
    page.get_by_role("button", name="Confirm the app").click()
    expect(page.locator("#factor-code-problem")).to_contain_text("must be the six digits that the app shows")
    page.locator("#factor-code").fill(api.totp(secret))
    page.get_by_role("button", name="Confirm the app").click()
    expect(page.locator("#recovery-code-list li")).to_have_count(10)
    codes = page.locator("#recovery-code-list code").all_inner_texts()
    expect(page.locator("#factor-secret-text")).to_be_empty()
    page.locator("#logout").click()
    log_in(page, login)
    expect(page.locator("#totp-code")).to_be_focused()
    page.locator("#totp-code").fill("AAAA-AAAA-AAAA-AAAA")
    page.get_by_role("button", name="Go on").click()
    expect(page.locator("#message")).to_contain_text("The code is wrong or was used already.")
    page.locator("#totp-code").fill(codes[0].lower())
    page.get_by_role("button", name="Go on").click()
    expect(page.locator("#login-name")).to_have_text(login)
    # The session has both factors, so the app can be removed.
    page.get_by_role("button", name="Account").click()
    expect(page.locator("#factor-count")).to_contain_text("9 recovery codes are left.")
    page.once("dialog", lambda dialog: dialog.dismiss())
    page.get_by_role("button", name="Remove").click()
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Remove").click()
    expect(page.locator("#factors-title")).to_be_focused()
    expect(page.locator("#factor-count")).to_have_text("A login needs only your password.")


def add_app(page):
    """Adds an app at a login that needs one, and returns the secret."""
    page.get_by_role("button", name="Add an app").click()
    expect(page.locator("#totp-code")).to_be_focused()
    secret = page.locator("#enrol-secret-text").inner_text()
    page.locator("#totp-code").fill(api.totp(secret))
    page.get_by_role("button", name="Go on").click()
    expect(page.locator("#recovery-code-list li")).to_have_count(10)


def test_a_member_of_a_role_that_needs_an_app_adds_it_with_a_mailed_code(person, own_gateway):
    gateway = own_gateway(standalone=["--require-second-factor", "guard"])
    admin = gateway.rest(gateway.administrator())
    created = admin.post("/v1/roles", json={"codeName": "guard"})
    assert created.status_code == 200, created.text
    login, temporary = f"t{uuid.uuid4().hex[:8]}", "temporary secret"
    account = {"login": login, "email": f"{login}@example.com", "password": temporary, "roles": ["player", "guard"]}
    created = admin.post("/v1/users", json=account)
    assert created.status_code == 200, created.text
    page = person(gateway=gateway)
    log_in(page, login, temporary)
    expect(page.locator("#new-password")).to_be_focused()
    page.locator("#new-password").fill("a secret of my own")
    page.keyboard.press("Enter")
    expect(page.locator("#enrol-code")).to_be_focused()
    expect(page.locator("#message")).to_have_text("A mail with a code is on its way.")
    page.locator("#enrol-code").fill("2222-2222")
    page.get_by_role("button", name="Add an app").click()
    expect(page.locator("#message")).to_contain_text("The code is wrong, has expired or was used already.")
    page.locator("#enrol-code").fill(code_in(gateway.mail_to(f"{login}@example.com", containing="second factor")))
    add_app(page)
    expect(page.locator("#login-name")).to_have_text(login)


def test_a_link_confirms_an_address_only_with_the_password(person, gateway):
    login = register(person())
    other = person(link_in(gateway.mail_to(f"{login}@example.com", containing="#verify-email?"), gateway))
    expect(other.locator("#confirm-identifier")).to_have_value(f"{login}@example.com")
    expect(other.locator("#confirm-password")).to_be_focused()
    other.get_by_role("button", name="Confirm the address").click()
    expect(other.locator("#confirm-password-problem")).to_have_text("Password is required.")
    other.locator("#confirm-password").fill(PASSWORD)
    other.get_by_role("button", name="Confirm the address").click()
    expect(other.locator("#login-name")).to_have_text(login)
    expect(other.locator("#message")).to_have_text("Your e-mail address is confirmed.")


def open_account(page):
    page.get_by_role("button", name="Account", exact=True).click()
    expect(page.locator("#account-title")).to_be_focused()
    expect(page).to_have_title("Your account – Tic-tac-toe")


def same_user_elsewhere(person, login, password=PASSWORD):
    other = person()
    log_in(other, login, password)
    expect(other.locator("#login-name")).to_have_text(login)
    return other


def test_a_user_changes_the_password(person):
    page = person()
    login = register(page)
    other = same_user_elsewhere(person, login)
    open_account(page)
    expect(page.locator("#sessions li")).to_have_count(2)
    form = page.locator("#password-form")
    for current, new, field, problem in [
        ("", "short", "#password-current", "Current password is required."),
        (PASSWORD, "short", "#password-new", "New password must be 8 to 128 characters."),
        (PASSWORD, PASSWORD, "#password-new", "New password must differ from the current password."),
    ]:
        form.get_by_label("Current password").fill(current)
        form.get_by_label("New password").fill(new)
        form.get_by_role("button").click()
        expect(page.locator(field)).to_have_accessible_description(re.compile(re.escape(problem)))
    form.get_by_label("Current password").fill("wrong horse")
    form.get_by_label("New password").fill("purple elephants")
    form.get_by_role("button").click()
    expect(page.locator("#message")).to_have_text("The current password is wrong.")
    form.get_by_label("Current password").fill(PASSWORD)
    form.get_by_role("button").click()
    expect(page.locator("#message")).to_have_text("Your password is changed. All other devices are logged out.")
    expect(page.locator("#message")).not_to_have_class("error")
    expect(page.locator("#sessions li")).to_have_count(1)
    expect(form.get_by_label("Current password")).to_have_value("")
    expect(other.locator("#message")).to_have_text("You were logged out.")
    # The session goes on with a new cookie.
    page.reload()
    expect(page.locator("#login-name")).to_have_text(login)
    log_in(other, login, "purple elephants")
    expect(other.locator("#login-name")).to_have_text(login)


def test_a_user_sees_and_ends_sessions(person):
    page = person()
    login = register(page)
    other = same_user_elsewhere(person, login)
    open_account(page)
    rows = page.locator("#sessions li")
    expect(rows).to_have_count(2)
    expect(rows.filter(has_text="This device")).to_have_count(1)
    expect(rows.first).to_contain_text(re.compile(r"Chrome on Linux.*logged in \w.* · last used \w"))
    rows.get_by_role("button", name="End the session of Chrome on Linux").click()
    expect(page.locator("#message")).to_have_text("That device is logged out.")
    expect(page.locator("#sessions-title")).to_be_focused()
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("This device")
    expect(other.locator("#message")).to_have_text("You were logged out.")
    log_in(other, login)
    expect(other.locator("#login-name")).to_have_text(login)
    page.once("dialog", lambda dialog: dialog.dismiss())
    page.get_by_role("button", name="Log out everywhere").click()
    expect(page.locator("#account")).to_be_visible()
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Log out everywhere").click()
    expect(page.locator("#message")).to_have_text("You are logged out everywhere.")
    expect(other.locator("#message")).to_have_text("You were logged out.")
    page.reload()
    expect(page.locator("#entry")).to_be_visible()


def test_a_user_downloads_all_that_is_known(person):
    page = person()
    login = register(page)
    # More sessions and events than fit on one page.
    page.evaluate("""async ([identifier, password]) => {
        for (let each = 0; each < 25; each++) {
            const body = JSON.stringify({ identifier, password, audience: "game-service" });
            const login = () => fetch("/v1/auth/login", { method: "POST", body, headers: { "content-type": "application/json" } });
            // The gateway limits logins.
            while ((await login()).status === 429) await new Promise((resolve) => setTimeout(resolve, 200));
        }
    }""", [login, PASSWORD])
    # The limit on sessions has ended that of the page.
    log_in_again(page, login)
    open_account(page)
    with page.expect_download() as started:
        page.get_by_role("button", name="Download your data").click()
    expect(page.locator("#message")).to_have_text(f"Your data is in the file {login}.json.")
    assert started.value.suggested_filename == f"{login}.json"
    data = json.loads(pathlib.Path(started.value.path()).read_text())
    assert data["user"]["login"] == login and data["roles"] == ["player"]
    assert len(data["sessions"]) == 27
    actions = collections.Counter(event["action"] for event in data["auditEvents"])
    assert (actions["user.register"], actions["session.login"], actions["user.export"]) == (1, 26, 1)
    assert "nextPageToken" not in data
    assert all(count["count"] > 0 for count in data["limitCounts"])


def log_in_again(page, login):
    expect(page.locator("#entry")).to_be_visible()
    log_in(page, login)
    expect(page.locator("#login-name")).to_have_text(login)


def test_a_user_deletes_the_account(person):
    page = person()
    login = register(page)
    other = same_user_elsewhere(person, login)
    open_account(page)
    form = page.locator("#delete-form")
    # Nothing happens without an answer to the question.
    page.once("dialog", lambda dialog: dialog.dismiss())
    form.get_by_label("Current password").fill(PASSWORD)
    form.get_by_role("button").click()
    expect(form.get_by_label("Current password")).to_have_value(PASSWORD)
    page.on("dialog", lambda dialog: dialog.accept())
    form.get_by_label("Current password").fill("")
    form.get_by_role("button").click()
    expect(page.locator("#delete-password-problem")).to_have_text("Current password is required.")
    form.get_by_label("Current password").fill("wrong horse")
    form.get_by_role("button").click()
    expect(page.locator("#message")).to_have_text("The current password is wrong.")
    form.get_by_label("Current password").fill(PASSWORD)
    form.get_by_role("button").click()
    expect(page.locator("#message")).to_have_text("Your account is deleted.")
    expect(page.locator("#entry")).to_be_visible()
    expect(other.locator("#message")).to_have_text("You were logged out.")
    assert login not in visible_to_scripts(page)
    assert [each for each in page.context.cookies() if each["name"].endswith("refresh_token")] == []
    log_in(page, login)
    expect(page.locator("#message")).to_have_text("The login or the password is wrong.")


def test_an_account_is_deleted_after_a_login_of_long_ago(person, gateway):
    def delete(page):
        page.reload()
        expect(page.locator("#who")).to_be_visible()
        open_account(page)
        page.on("dialog", lambda dialog: dialog.accept())
        form = page.locator("#delete-form")
        if form.get_by_label("Current password").is_visible():
            form.get_by_label("Current password").fill(PASSWORD)
        form.get_by_role("button").click()
        expect(page.locator("#message")).to_have_text("Your account is deleted.")

    page = person()
    identifier = register(page)
    gateway.old_login(gateway.rest().post("/v1/auth/login", json={"identifier": identifier, "password": PASSWORD}).json())
    delete(page)
    guest = person()
    play_as_guest(guest)
    credential = guest.evaluate("JSON.parse(localStorage.getItem('guest')).credential")
    gateway.old_login(gateway.rest().post("/v1/auth/login-guest", json={"guestCredential": credential}).json())
    delete(guest)


def test_problems_of_one_form_are_gone_after_a_success_in_another(person):
    page = person()
    page.locator("#register-form").get_by_role("button").click()
    expect(page.locator("#register-login-problem")).to_have_text("Login is required.")
    play_as_guest(page)
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Log out").click()
    expect(page.locator("#entry")).to_be_visible()
    expect(page.locator("#register-login-problem")).to_be_empty()
    expect(page.locator("#register-login")).not_to_have_attribute("aria-invalid", "true")


def test_a_link_for_another_user_says_so_and_leads_back_to_the_games(person, gateway):
    page = person()
    login = register(page)
    other = person()
    register(other)
    other.get_by_role("button", name="Log out").click()
    forget(other, login)
    link = link_in(gateway.mail_to(f"{login}@example.com"), gateway)
    third = person()
    third_login = register(third)
    third.evaluate("link => { location.hash = link }", link.partition("#")[2])
    expect(third.locator("#message")).to_have_text(f"You are logged in as {third_login}. This link is for {login}@example.com.")
    third.get_by_role("button", name="Back to the games").click()
    expect(third.locator("#lobby-title")).to_be_focused()
    expect(third.locator("#message")).to_be_empty()
    expect(third.locator("#login-name")).to_have_text(third_login)


def test_a_temporary_password_is_replaced_after_an_address_is_confirmed(person, own_gateway):
    gateway = own_gateway(standalone=["--require-verified-email"])
    login, temporary = f"t{uuid.uuid4().hex[:8]}", "temporary secret"
    account = {"login": login, "email": f"{login}@example.com", "password": temporary}
    created = gateway.rest(gateway.administrator()).post("/v1/users", json=account)
    assert created.status_code == 200, created.text
    page = person(gateway=gateway)
    log_in(page, login, temporary)
    expect(page.locator("#message")).to_have_text("Confirm your e-mail address first, with the code from the mail.")
    expect(page.locator("#message")).not_to_have_class("error")
    page.get_by_role("button", name="Send another code").click()
    expect(page.locator("#message")).to_have_text("A mail with a code is on its way.")
    confirm(page, code_in(gateway.mail_to(f"{login}@example.com", containing="#verify-email?")))
    expect(page.locator("#message")).to_have_text("Your password is a temporary one. Choose a new password to log in.")
    expect(page.locator("#new-password")).to_be_focused()
    page.locator("#new-password").fill("a secret of my own")
    page.keyboard.press("Enter")
    expect(page.locator("#login-name")).to_have_text(login)


def test_a_link_for_somebody_else_asks_who_is_meant_and_one_for_the_user_does_not(person, gateway):
    ann = register(person())
    link = link_in(gateway.mail_to(f"{ann}@example.com", containing="#verify-email?"), gateway)
    page = person()
    bob = register(page)
    page.goto(gateway.origin + link)
    expect(page.locator("#message")).to_have_text(f"You are logged in as {bob}. This link is for {ann}@example.com.")
    expect(page.locator("#confirm-identifier")).to_have_value(f"{ann}@example.com")
    expect(page.locator("#confirm-password")).to_be_focused()
    assert page.evaluate("location.href") == f"{gateway.origin}/"
    page.get_by_role("button", name="Confirm the address").click()
    expect(page.locator("#confirm-password-problem")).to_have_text("Password is required.")
    page.locator("#confirm-password").fill(PASSWORD)
    page.get_by_role("button", name="Confirm the address").click()
    # From now on, Ann is logged in there.
    expect(page.locator("#message")).to_have_text("Your e-mail address is confirmed.")
    expect(page.locator("#login-name")).to_have_text(ann)
    # Bob opens his own link, and need not say who he is.
    other = person()
    log_in(other, bob, PASSWORD)
    expect(other.locator("#login-name")).to_have_text(bob)
    other.goto(gateway.origin + link_in(gateway.mail_to(f"{bob}@example.com", containing="#verify-email?"), gateway))
    expect(other.locator("#confirm-password")).to_be_hidden()
    other.get_by_role("button", name="Confirm the address").click()
    expect(other.locator("#message")).to_have_text("Your e-mail address is confirmed.")
    expect(other.locator("#account-email")).to_have_text(f"{bob}@example.com, confirmed")


def test_a_new_password_can_be_shown_while_typing(person):
    page = person()
    password = page.locator("#register-password")
    for is_shown, kind in [(True, "text"), (False, "password")]:
        page.locator("#register-form").get_by_label("Show what I type").set_checked(is_shown)
        expect(password).to_have_attribute("type", kind)
    page.locator("#register-form").get_by_label("Show what I type").check()
    register(page)
    # The password is not shown to the next user of the form.
    expect(password).to_have_attribute("type", "password")


@pytest.mark.parametrize("at", ["the lobby", "a game"])
def test_a_lost_connection_is_shown_until_it_is_back(person, own_gateway, at):
    gateway = own_gateway()
    page = person(gateway=gateway)
    register(page)
    if at == "a game":
        page.get_by_role("button", name="Open a game for another player").click()
        expect(page.locator("#turn")).to_have_text("Waiting for another player …")
    gateway.envoy.stop()
    # The user is active.
    page.keyboard.press("Shift")
    expect(page.locator("#offline")).to_have_text("The server cannot be reached. Trying again …")
    page.get_by_role("button", name="Log out").click()
    expect(page.locator("#message")).to_have_text("The server cannot be reached.")
    gateway.start_envoy()
    expect(page.locator("#offline")).to_be_empty()
    expect(page.locator("#message")).to_be_empty()


def test_an_unanswered_call_counts_as_a_lost_connection(person):
    page = person(clock_is_ours=True)
    register(page)
    with page.expect_request("**/v1/open-games*"):
        # No request gets a response.
        page.route("**/v1/open-games*", lambda route: None)
    page.clock.fast_forward("00:46")
    expect(page.locator("#offline")).to_have_text("The server cannot be reached. Trying again …")
    page.unroute("**/v1/open-games*")
    page.clock.fast_forward("00:46")
    expect(page.locator("#offline")).to_be_empty()


def test_an_unanswered_rotation_does_not_block_the_page(person):
    page = person(clock_is_ours=True)
    register(page)
    page.reload()
    page.route("**/v1/auth/rotate", lambda route: None)
    with page.expect_request("**/v1/auth/rotate"):
        page.reload()
    # Three attempts of 45 seconds, and the pauses between them.
    until(lambda: page.clock.run_for("00:15") or page.locator("#message").inner_text(), "the page gives up")
    expect(page.locator("#message")).to_have_text("The server cannot be reached. Trying again …")
    page.unroute("**/v1/auth/rotate")
    until(lambda: page.clock.run_for("00:15") or page.locator("#lobby").is_visible(), "the lobby")


def test_a_silent_stream_counts_as_a_lost_connection(person):
    page = person(clock_is_ours=True)
    register(page)
    # No request gets a response.
    page.route("**:watch", lambda route: None)
    with page.expect_request("**:watch"):
        page.get_by_role("button", name="Open a game for another player").click()
    page.clock.fast_forward("00:46")
    expect(page.locator("#offline")).to_have_text("The server cannot be reached. Trying again …")
    page.unroute("**:watch")
    # The next attempt also gets no response.
    page.clock.fast_forward("00:46")
    expect(page.locator("#offline")).to_be_empty()


def test_a_user_without_permission_to_play_is_told_so(person, gateway):
    page = person()
    user_id = find(gateway, register(page))
    root = gateway.rest(gateway.administrator())
    assert root.post(f"/v1/users/{user_id}:unassignRole", json={"role": "player"}).status_code == 200
    expect(page.locator("#message")).to_contain_text("games:read")
    assert root.post(f"/v1/users/{user_id}:assignRole", json={"role": "player"}).status_code == 200
    expect(page.locator("#message")).to_be_empty()


def test_each_listed_game_shows_its_board_and_start(person):
    page = person()
    register(page)
    for moves in [0, 1]:
        page.get_by_role("button", name="Play the computer").click()
        # Before that, the board and the text are still those of the previous game.
        expect(page.locator("#game")).to_be_visible()
        expect(page.locator("#turn")).to_have_text("Your turn.")
        for _ in range(moves):
            page.locator("#board button:empty").first.click()
            # The player's move and the computer's, which may have made the first one.
            expect(page.locator("#board button:not(:empty)")).to_have_count(2 if "(X)" in page.locator("#game-title").text_content() else 3)
        page.get_by_role("button", name="Back to the games").click()
    rows = page.locator("#my-games li")
    expect(rows).to_have_count(2)
    boards = {"".join(each.text_content() or "." for each in row.locator(".mini span").all()) for row in rows.all()}
    assert len(boards) == 2 and all(len(board) == 9 for board in boards), boards
    for row in rows.all():
        expect(row.locator("div:not(.mini)")).to_have_text(re.compile(r"^You \([XO]\) against the computer\s*Your turn · started \w.* \d+:\d\d"))
        expect(row.get_by_role("button")).to_have_accessible_name(re.compile(r"^Continue: You \([XO]\) against the computer$"))


def test_the_history_says_how_each_game_ended(person):
    ann, bob = person(), person()
    ann_login, bob_login = register(ann), register(bob)
    first, second = begin(ann, ann_login, bob)
    logins = {ann: ann_login, bob: bob_login}
    for mover in [first, second]:
        expect(mover.locator("#turn")).to_have_text("Your turn.")
        mover.locator("#board button:empty").first.click()
    # Giving up needs a confirmation, which can be declined.
    second.once("dialog", lambda dialog: dialog.dismiss())
    second.get_by_role("button", name="Give up").click()
    expect(second.locator("#turn")).to_contain_text("Waiting for")
    second.once("dialog", lambda dialog: dialog.accept())
    second.get_by_role("button", name="Give up").click()
    expect(second.locator("#turn")).to_have_text("You lost. You gave up.")
    expect(first.locator("#turn")).to_have_text("You won! Your opponent gave up.")
    for page, how, other in [(first, "won", second), (second, "lost", first)]:
        page.get_by_role("button", name="Back to the games").click()
        row = page.locator("#history li").first.locator("div:not(.mini)")
        expect(row).to_contain_text(f"You {how} against {logins[other]}")
        # The text and the details are on separate lines.
        assert f"You {how} against {logins[other]}" in row.inner_text().splitlines()
        expect(row.locator("small")).to_contain_text("gave up")


def begin(one, login, other):
    """Starts a game of two people, and returns first the page of X and then that of O."""
    one.get_by_role("button", name="Open a game for another player").click()
    other.locator("#open-games li", has_text=login).get_by_role("button", name="Join").click()
    expect(one.locator("#turn")).not_to_have_text("Waiting for another player …")
    return (one, other) if "(X)" in one.locator("#game-title").text_content() else (other, one)


def test_a_deleted_opponent_is_shown_as_a_deleted_player(person, gateway):
    page = person()
    login = register(page)
    page.get_by_role("button", name="Open a game for another player").click()
    account = gateway.register()["user"]["login"]
    log_in_for = {"identifier": account, "password": PASSWORD}
    game, accounts = [
        gateway.rest(gateway.rest().post("/v1/auth/login", json={**log_in_for, "audience": audience}).json()["tokens"]["accessToken"])
        for audience in ["game-service", "auth-service"]
    ]
    [opened] = [each for each in game.get("/v1/open-games?pageSize=100").json()["games"] if login in (each["xLogin"], each["oLogin"])]
    assert game.post(f"/v1/games/{opened['gameId']}:join", json={}).status_code == 200
    expect(page.locator("#game-title")).to_contain_text(f"against {account}")
    assert accounts.post("/v1/me:delete", json={"currentPassword": PASSWORD}).status_code == 200
    expect(page.locator("#game-title")).to_contain_text("against a deleted player")


def test_the_title_says_whose_turn_it_is_even_in_the_background(person):
    ann, bob = person(clock_is_ours=True), person(clock_is_ours=True)
    register(bob)
    first, second = begin(ann, register(ann), bob)
    expect(first).to_have_title("Your turn – Tic-tac-toe")
    expect(second).to_have_title("Tic-tac-toe")
    hide(second)
    asked = []
    second.on("request", lambda request: asked.append(request.url))
    cell(first, 0).click()
    expect(first).to_have_title("Tic-tac-toe")
    second.clock.fast_forward("00:11")
    expect(second).to_have_title("Your turn – Tic-tac-toe")
    # Now no opponent is to move, so the page does not poll.
    del asked[:]
    second.clock.run_for(60_000)
    assert asked == []
    show(second)
    second.get_by_role("button", name="Back to the games").click()
    expect(second.locator("#my-games li")).to_contain_text("Your turn")
    expect(second).to_have_title("Your turn – Tic-tac-toe")


def hide(page, is_hidden="true"):
    """Hides or shows the page as if another tab were in front, which a headless browser cannot do."""
    page.evaluate(f"Object.defineProperty(document, 'hidden', {{ value: {is_hidden}, configurable: true }}); document.dispatchEvent(new Event('visibilitychange'))")


def show(page):
    hide(page, "false")


def test_an_idle_lobby_polls_rarely_and_a_hidden_one_never(person, gateway):
    page = person(clock_is_ours=True)
    register(page)
    expect(page.locator("#history")).to_contain_text("You have not finished")
    asked = []
    page.on("request", lambda request: asked.append(request.url))

    def wait(seconds):
        """Advances the clock second by second, so that each response arrives before the next timer."""
        del asked[:]
        for _ in range(seconds):
            page.clock.run_for(1000)
            page.evaluate("fetch('/style.css')")
        return [url for url in asked if "/v1/" in url]

    wait(20)
    # An active page polls about three times a second; this one is idle.
    assert 0 < len(wait(60)) <= 30
    # An active user sees changes at once.
    page.keyboard.press("Shift")
    with page.expect_response("**/v1/open-games*"):
        page.clock.run_for(1000)
    hide(page)
    wait(2)
    assert wait(60) == []


def test_a_double_click_creates_one_game(person):
    page = person()
    register(page)
    made = []
    page.on("request", lambda request: request.method == "POST" and request.url.endswith("/v1/games") and made.append(request))
    page.get_by_role("button", name="Open a game for another player").dblclick()
    expect(page.locator("#turn")).to_have_text("Waiting for another player …")
    assert len(made) == 1


def test_a_game_with_the_computer_can_be_played_again(person):
    page = person()
    register(page)
    page.get_by_role("button", name="Play the computer").click()
    again = page.get_by_role("button", name="Play again")
    expect(page.locator("#turn")).to_have_text("Your turn.")
    expect(again).to_be_hidden()
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Give up").click()
    again.click()
    expect(page.locator("#turn")).to_have_text("Your turn.")
    expect(page.locator("#game-title")).to_be_focused()


def test_the_focus_moves_to_the_heading_of_each_view(person):
    page = person()
    # The focus does not move before the user has done anything.
    assert page.evaluate("document.activeElement === document.body")
    register(page)
    expect(page.locator("#lobby-title")).to_be_focused()
    page.get_by_role("button", name="Open a game for another player").click()
    expect(page.locator("#game-title")).to_be_focused()
    page.get_by_role("button", name="Back to the games").click()
    expect(page.locator("#lobby-title")).to_be_focused()
    page.get_by_role("button", name="Log out").click()
    expect(page.locator("#entry-title")).to_be_focused()


def test_on_a_phone_buttons_are_apart_and_large_enough(person):
    page = person(viewport={"width": 375, "height": 667}, has_touch=True)
    register(page)
    expect(page.locator("#my-games li")).to_have_count(1)
    assert_apart(page)
    page.get_by_role("button", name="Open a game for another player").click()
    expect(page.locator("#turn")).to_have_text("Waiting for another player …")
    assert_apart(page)
    page.get_by_role("button", name="Back to the games").click()
    page.get_by_role("button", name="Open a game for another player").click()
    page.get_by_role("button", name="Back to the games").click()
    expect(page.locator("#my-games li")).to_have_count(2)
    assert_apart(page)


def assert_apart(page):
    boxes = [each.bounding_box() for each in page.get_by_role("button").all()]
    for index, one in enumerate(boxes):
        assert min(one["width"], one["height"]) >= 44, one
        for other in boxes[:index]:
            across, down = (max(one[at] - other[at] - other[size], other[at] - one[at] - one[size]) for at, size in [("x", "width"), ("y", "height")])
            assert max(across, down) >= 6, (one, other)
    assert fits(page)


def top(locator):
    return locator.bounding_box()["y"]


def bottom(locator):
    box = locator.bounding_box()
    return box["y"] + box["height"]


def test_swagger_ui_authorizes_and_makes_a_call(person, gateway):
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


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
@pytest.mark.parametrize("width", [320, 375])
def test_the_pages_about_the_api_fit_on_a_phone(chromium, gateway, path, width):
    """In a browser that is told to be a phone, which lays pages without a viewport out at 980 pixels."""
    context = chromium.new_context(viewport={"width": width, "height": 667}, is_mobile=True)
    page, complaints = context.new_page(), []
    page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
    page.goto(gateway.origin + path)
    if path == "/docs":
        operation = page.locator("#operations-AuthService-AuthService_Register")
        operation.locator(".opblock-summary-control").click()
        expect(operation.locator(".responses-table")).to_be_visible()
    else:
        expect(page.get_by_role("heading", name=re.compile("Identity and games"))).to_be_visible()
    assert page.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [width, width]
    context.close()
    assert complaints == []


def test_redoc_shows_the_document_and_calls_no_other_host(person):
    page = person("/redoc")
    expect(page.get_by_role("heading", name=re.compile("Identity and games"))).to_be_visible()
    expect(page.get_by_role("menuitem", name="AuthService")).to_be_visible()
    expect(page.get_by_role("heading", name="Creates a user with the role")).to_be_attached()


def test_on_the_http_port_swagger_ui_calls_the_gateway(chromium, own_gateway):
    """Serves the API pages as `cargo run` does with the gateway beside it, on other ports."""
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


def play_as_guest(page):
    page.get_by_role("button", name="Play as a guest").click()
    expect(page.locator("#login-name")).to_have_text(re.compile("^guest-[2-9a-km-z]{16}$"))
    return page.locator("#login-name").text_content()


def test_a_guest_plays_comes_back_and_keeps_the_account(person, gateway):
    page = person()
    guest = play_as_guest(page)
    page.get_by_role("button", name="Play the computer").click()
    expect(page.locator("#deadline")).to_contain_text("does not count on the leaderboard")
    page.get_by_role("button", name="Back to the games").click()
    # The page asks before a logout, because nothing but this browser brings the guest back.
    questions = []
    page.once("dialog", lambda dialog: (questions.append(dialog.message), dialog.dismiss()))
    page.get_by_role("button", name="Log out").click()
    until(lambda: questions, "the question")
    assert "Only this browser" in questions[0] and "you lose this account" in questions[0]
    expect(page.locator("#login-name")).to_have_text(guest)
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Log out").click()
    expect(page.locator("#entry")).to_be_visible()
    # The session is over and its cookie is gone, and the credential logs in.
    page.reload()
    page.get_by_role("button", name=f"Continue as {guest}").click()
    expect(page.locator("#login-name")).to_have_text(guest)
    expect(page.locator("#my-games li")).to_have_count(1)
    # A name that somebody has is named at its field, and nothing changes.
    page.get_by_text("Keep this account").first.click()
    form = page.locator("#upgrade-form")
    login = f"b{uuid.uuid4().hex[:8]}"
    form.get_by_label("Login").fill(gateway.register()["user"]["login"])
    form.get_by_label("E-mail address").fill(f"{login}@example.com")
    form.get_by_label("Password", exact=True).fill(PASSWORD)
    form.get_by_role("button").click()
    expect(page.locator("#upgrade-login-problem")).to_contain_text("is taken")
    expect(page.locator("#login-name")).to_have_text(guest)
    form.get_by_label("Login").fill(login)
    form.get_by_role("button").click()
    expect(page.locator("#login-name")).to_have_text(login)
    expect(page.locator("#keep")).to_be_hidden()
    expect(page.locator("#message")).to_contain_text(login)
    expect(page.locator("#my-games li")).to_have_count(1)
    # The session goes on after the cookie was replaced, and the credential is gone.
    page.reload()
    expect(page.locator("#login-name")).to_have_text(login)
    assert page.evaluate("localStorage.getItem('guest')") is None
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("button", name="Play as a guest")).to_be_visible()
    log_in(page, login)
    expect(page.locator("#login-name")).to_have_text(login)


def test_only_the_credential_of_a_guest_is_visible_to_scripts(person):
    page = person()
    guest = play_as_guest(page)
    stored = visible_to_scripts(page)
    assert refresh_cookie(page)["value"] not in stored
    kept = json.loads(page.evaluate("localStorage.getItem('guest')"))
    assert kept["login"] == guest and kept["credential"].startswith("g1.")


def test_a_guest_has_an_account_page_and_deletes_the_account(person):
    page = person()
    guest = play_as_guest(page)
    open_account(page)
    expect(page.locator("#sessions li")).to_have_count(1)
    for form in ["#email-form", "#password-form", "#delete-password"]:
        expect(page.locator(form)).to_be_hidden()
    with page.expect_download() as started:
        page.get_by_role("button", name="Download your data").click()
    assert json.loads(pathlib.Path(started.value.path()).read_text())["user"]["login"] == guest
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete the account").click()
    expect(page.locator("#message")).to_have_text("Your account is deleted.")
    expect(page.get_by_role("button", name="Play as a guest")).to_be_visible()
    assert page.evaluate("localStorage.length") == 0


def test_the_credential_of_a_deactivated_guest_is_kept_until_the_user_forgets_it(person, gateway):
    page = person()
    guest = play_as_guest(page)
    root = gateway.rest(gateway.administrator())
    user_id = find(gateway, guest)
    assert root.post(f"/v1/users/{user_id}:deactivate", json={}).status_code == 200
    expect(page.locator("#entry")).to_be_visible()
    forget = page.get_by_role("button", name="Forget this guest")
    expect(forget).to_be_hidden()
    again = page.get_by_role("button", name=f"Continue as {guest}")
    again.click()
    expect(page.locator("#message")).to_contain_text(f"{guest} cannot log in.")
    expect(page.locator("#message")).to_have_class("error")
    # An administrator may have made a mistake.
    assert root.post(f"/v1/users/{user_id}:reactivate", json={}).status_code == 200
    again.click()
    expect(page.locator("#login-name")).to_have_text(guest)
    assert root.delete(f"/v1/users/{user_id}").status_code == 200
    expect(page.locator("#entry")).to_be_visible()
    expect(forget).to_be_hidden()
    again.click()
    page.once("dialog", lambda dialog: dialog.dismiss())
    forget.click()
    expect(again).to_be_visible()
    page.once("dialog", lambda dialog: dialog.accept())
    forget.click()
    expect(page.locator("#message")).to_have_text(f"{guest} is forgotten. You can play as a new guest.")
    expect(forget).to_be_hidden()
    assert play_as_guest(page) != guest
