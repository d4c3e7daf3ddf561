"""The first page of deploy/docs/your-own-page.md, in a real Chromium, from another origin than the API."""

import functools
import http.server
import re
import threading

import pytest
from conftest import PASSWORD, ROOT, executable
from playwright.sync_api import expect, sync_playwright
from ports import free_ports

GUIDE = ROOT / "deploy" / "docs" / "your-own-page.md"


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Handler that does not log each request."""

    def log_message(self, *_):
        pass


@pytest.fixture
def origin(tmp_path):
    """Origin that serves the files in a folder."""
    [port] = free_ports(1)
    folder = tmp_path / "page"
    folder.mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), functools.partial(Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_first_page_logs_in_and_again_after_a_reload(own_gateway, origin, tmp_path):
    gateway = own_gateway(gateway=["--origins", origin], standalone=["--cookie-origins", origin])
    [page] = re.findall(r"^```html index.html\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "page" / "index.html").write_text(page.replace("http://127.0.0.1:8080", gateway.origin))
    gateway.register("ivo")
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=executable("chromium", "chromium"), args=arguments)
        context = browser.new_context()
        tab = context.new_page()
        status = tab.get_by_role("status")
        tab.goto(origin)
        for password, shown in [("wrong horse", re.compile("is wrong")), (PASSWORD, "You are ivo.")]:
            tab.get_by_label("Login").fill("ivo")
            tab.get_by_label("Password").fill(password)
            tab.get_by_role("button").click()
            expect(status).to_have_text(shown)
        tab.reload()
        expect(status).to_have_text("You are ivo.")
        expect(tab.get_by_role("button")).to_be_hidden()
        # Several tabs that start at once share the session.
        tabs = [context.new_page() for _ in range(3)]
        for each in tabs:
            each.goto(origin, wait_until="commit")
        for each in tabs:
            expect(each.get_by_role("status")).to_have_text("You are ivo.")
        browser.close()
