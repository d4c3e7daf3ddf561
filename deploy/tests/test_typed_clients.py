"""Typed clients of deploy/docs/your-own-page.md, generated, type-checked and run as described there."""

import os
import pathlib
import re
import subprocess
import sys

import pytest
from conftest import ROOT

PAGE = (ROOT / "deploy" / "docs" / "your-own-page.md").read_text()
BLOCKS = dict(re.findall(r"^```\w+ ([\w.-]+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
# By the name of the block of commands: the files that it needs, and the output of the program.
CLIENTS = {
    "openapi": (["openapi-client.mts"], "........."),
    "connect": (["buf.gen.yaml", "connect-client.mts"], ".........\nAlreadyExists USER_ALREADY_EXISTS"),
    "python": (["client.py"], "ida2\n.........\nUNAUTHENTICATED TOKEN_MISSING"),
}


@pytest.mark.parametrize("name", CLIENTS)
def test_a_typed_client_works_as_the_page_says(name, gateway, tmp_path):
    files, printed = CLIENTS[name]
    (tmp_path / "proto").symlink_to(ROOT / "proto")
    for file in files:
        text = BLOCKS[file].replace("http://127.0.0.1:8080", gateway.origin).replace("127.0.0.1:8080", gateway.at("port"))
        (tmp_path / file).write_text(text)
    environment = {**os.environ, "PATH": f"{pathlib.Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(tmp_path)}
    environment["npm_config_update_notifier"] = "false"

    def run(block):
        # Python's packages are installed already, at the versions pinned for the tests.
        commands = re.sub(r"^pip install.*\n", "", BLOCKS[block])
        command = ["bash", "-euo", "pipefail", "-c", commands]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"
        return done.stdout

    run(name)
    assert run(f"{name}-run").strip() == printed


def test_the_page_names_the_versions_that_are_tested():
    pinned = dict(re.findall(r"^([\w-]+)==([\w.]+)", (ROOT / ".ci" / "requirements.txt").read_text(), re.MULTILINE))
    named = re.findall(r"([\w-]+)==([\w.]+)", BLOCKS["python"])
    assert len(named) == 3
    assert [pinned[name] for name, _ in named] == [version for _, version in named]


def test_every_code_block_of_the_page_is_used():
    # The page is that of test_first_page.py.
    assert set(BLOCKS) == {"index.html", *(name for client, (files, _) in CLIENTS.items() for name in [client, f"{client}-run", *files])}
