"""What the README shows in a terminal is what one sees: its `console` blocks, run one after the other as they stand there, but for the ports."""

import json
import os
import re
import subprocess
import sys

from conftest import PROGRAMS, ROOT, executable

README = (ROOT / "README.md").read_text()
# grpcurl cannot be had everywhere. Its calls are made by buf, which speaks the same, and shown as grpcurl shows them.
GRPCURL = r'''#!{python}
import json, re, subprocess, sys

arguments, headers, data = sys.argv[1:], [], "{{}}"
assert arguments.pop(0) == "-plaintext"
while arguments[0].startswith("-"):
    flag, value = arguments.pop(0), arguments.pop(0)
    if flag == "-H":
        headers += ["-H", value]
    elif flag == "-d":
        data = value
host, method = arguments
command = ["{buf}", "curl", "--protocol", "grpc", "--http2-prior-knowledge", *headers, "-d", data, f"http://{{host}}/{{method}}"]
called = subprocess.run(command, capture_output=True, text=True)
if called.returncode == 0:
    print(called.stdout, end="")
else:
    error = json.loads(called.stderr)
    print("ERROR:", "Code: " + "".join(part.capitalize() for part in error["code"].split("_")), "Message: " + error["message"], sep="\n  ", file=sys.stderr)
    sys.exit(1)
'''


def blocks():
    """The commands of every block, each with the lines that it is said to print."""
    for block in re.findall(r"^```console\n(.*?)^```$", README, re.MULTILINE | re.DOTALL):
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
    return not command.endswith("\\") and subprocess.run(["bash", "-n", "-c", command], capture_output=True).returncode == 0


def seen(text):
    """Without what differs from one run to the next, and however the lines are broken."""
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "<uuid>", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "<time>", text)
    return " ".join(text.split())


def matches(shown, printed):
    pattern = ".*".join(re.escape(part) for part in seen(shown).split("…"))
    return re.fullmatch(pattern, seen(printed), re.DOTALL) is not None


def test_the_terminal_shows_what_the_readme_shows(own_gateway, tmp_path):
    gateway = own_gateway()
    jq = executable("jq", "jq")
    shims = tmp_path / "bin"
    shims.mkdir()
    (shims / "grpcurl").write_text(GRPCURL.format(python=sys.executable, buf=os.path.join(os.path.dirname(sys.executable), "buf")))
    (shims / "grpcurl").chmod(0o755)
    ports = {"127.0.0.1:50051": gateway.at("auth"), "127.0.0.1:50052": gateway.at("game"), "127.0.0.1:8080": gateway.at("port"), "127.0.0.1:8081": gateway.at("auth_http")}

    def here(text):
        for said, real in ports.items():
            text = text.replace(said, real)
        return text

    shell = subprocess.Popen(
        ["bash", "--norc"],
        cwd=gateway.folder,
        env={"PATH": f"{shims}:{PROGRAMS}:{os.path.dirname(jq)}:/usr/bin:/bin", "HOME": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        bufsize=1,
    )

    def run(command):
        shell.stdin.write(f"{here(command)}\necho \"--- end $?\"\n")
        shell.stdin.flush()
        lines = []
        while not (end := re.fullmatch(r"--- end (\d+)\n", line := shell.stdout.readline())):
            assert line, "the shell has ended"
            lines.append(line)
        return "".join(lines), int(end[1])

    count = 0
    try:
        for commands in blocks():
            for command, shown in commands:
                output, code = run(command)
                shown = here("\n".join(shown))
                if shown:
                    assert matches(shown, output), f"$ {command}\nthe README shows\n{shown}\nand one sees\n{output}"
                if not shown.startswith("ERROR"):
                    assert code == 0, f"$ {command}\n{output}"
                count += 1
    finally:
        shell.stdin.close()
        shell.wait()
    assert count > 4


def test_a_client_is_checked_as_the_readme_says(tmp_path):
    page = (ROOT / "deploy/docs/your-own-page.md").read_text()
    scripts = re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    [commands] = [script for script in scripts if "check-jsonschema" in script]
    (tmp_path / "proto").symlink_to(ROOT / "proto")
    folders = [os.path.dirname(sys.executable), os.path.dirname(executable("jq", "jq")), "/usr/bin", "/bin"]
    path = os.pathsep.join(folders)

    def check(request):
        (tmp_path / "request.json").write_text(json.dumps(request))
        command = ["bash", "-ec", commands]
        return subprocess.run(command, cwd=tmp_path, env={"PATH": path}, capture_output=True, text=True)

    account = {"login": "ann", "email": "ann@example.com", "password": "correct horse"}
    passed = check(account)
    assert passed.returncode == 0, passed.stdout + passed.stderr
    misspelt = check({**account, "firstNam": "Ann"})
    assert misspelt.returncode != 0 and "firstNam" in misspelt.stdout
    assert check({**account, "login": 7}).returncode != 0
