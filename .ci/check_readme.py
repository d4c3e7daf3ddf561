"""Checks README.md against the repository: its links, its anchors, the paths that it names, its two commands.

    check_readme.py [README.md]

A path counts as existing when git tracks it, so that nothing on one machine alone hides a mistake. Checked are

- every relative link, with its anchor;
- every `path/like/this` whose first part is a top-level folder of the repository, and the dotfiles at the top;
- under a heading that says "map", "where" or "to change": every `path`, which every service has where it does not begin
  at the top, every `file.ext`, wherever that is, and the folders that the lines of a drawn tree begin with.

A path may hold `*`, `{a,b}` and `<name>`, which stands for any one name.
"""

import fnmatch
import itertools
import pathlib
import re
import subprocess
import sys

COMMANDS = ("cargo run --release", "cargo test --workspace")

FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
HEADING = re.compile(r"^(#{1,6})\s+(.+?)\s*#*$")
LINK = re.compile(r"\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)|^ {0,3}\[[^\]]+\]:\s*<?([^\s>]+)")
CODE = re.compile(r"(`+)(.+?)\1")
MAP = re.compile(r"\b(map|where)\b|\bto change\b", re.IGNORECASE)
TREE = re.compile(r"^([\w.-]+/[\w./-]*)\s")
# A file or a folder, maybe with a line number; no command, no RPC and no address.
PATH = re.compile(r"^[\w.*{},<>-]+(/[\w.*{},<>-]+)*/?(:\d+)?$")


def tracked(folder):
    """Every tracked file and every folder that holds one, with `/` between the parts."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=folder, check=True, capture_output=True, text=True).stdout
    files = [pathlib.PurePosixPath(name) for name in listed.split("\0") if name]
    folders = {parent for file in files for parent in file.parents}
    return {str(path) for path in [*files, *folders]}


def slug(heading):
    """The anchor that a heading gets."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def expanded(pattern):
    """The patterns of a path with `{a,b}` in it."""
    parts = re.split(r"\{([^{}]*)\}", pattern)
    choices = [part.split(",") if index % 2 else [part] for index, part in enumerate(parts)]
    return ["".join(choice) for choice in itertools.product(*choices)]


def exists(path, known):
    path = path.removeprefix("./").rstrip("/") or "."
    for pattern in expanded(re.sub(r"<[^<>]*>", "*", path)):
        depth = pattern.count("/")
        if pattern in known:
            continue
        if not any(name.count("/") == depth and fnmatch.fnmatchcase(name, pattern) for name in known):
            return False
    return True


def exists_in_map(path, known, services):
    if "/" not in path:
        return any(name.rpartition("/")[2] == path for name in known)
    return bool(services) and all(exists(f"{service}/{path}", known) for service in services)


def is_path(span, top, in_map):
    if not PATH.match(span):
        return False
    first = span.removeprefix("./").split("/")[0]
    if first in top and ("/" in span or first.startswith(".")):
        return True
    # `a/b` or `a.rs`, but neither `auth.v1` nor `game.v1.GameService/MakeMove`.
    looks_like_file = re.search(r"\.(rs|toml|proto|sql|py|md|sh|ya?ml|json|txt)$", span)
    return in_map and not re.match(r"^\w+\.v\d", span) and ("/" in span or bool(looks_like_file))


def main():
    readme = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "README.md")
    if not readme.is_file():
        sys.exit(f"{readme} does not exist")
    text = readme.read_text(encoding="utf-8")
    known = tracked(readme.resolve().parent)
    top = {name for name in known if "/" not in name and name != "."}
    services = [name for name in top if name.endswith("-service")]
    wrong, anchors, links, paths = [], {}, [], 0
    fence, in_map, map_depth = None, False, 0

    for number, line in enumerate(text.splitlines(), 1):
        mark = FENCE.match(line)
        if mark and (fence is None or line.strip().startswith(fence) and not line.strip().strip(fence[0])):
            fence = mark[1] if fence is None else None
            continue
        if fence is not None:
            folder = TREE.match(line)
            if in_map and folder:
                paths += 1
                if not exists(folder[1], known):
                    wrong.append(f"{readme}:{number}: there is no tracked `{folder[1]}`")
            continue
        if heading := HEADING.match(line):
            depth = len(heading[1])
            if not in_map or depth <= map_depth:
                in_map, map_depth = bool(MAP.search(heading[2])), depth
            name = slug(heading[2])
            count = anchors[name] = anchors.get(name, -1) + 1
            if count:
                anchors.setdefault(f"{name}-{count}", 0)
        for link in LINK.finditer(CODE.sub("``", line)):
            links.append((number, link[1] or link[2]))
        for span in CODE.finditer(line):
            path = span[2].strip()
            if is_path(path, top, in_map):
                paths += 1
                path = path.partition(":")[0]
                if not exists(path, known) and not (in_map and exists_in_map(path, known, services)):
                    wrong.append(f"{readme}:{number}: there is no tracked `{path}`")

    for number, link in links:
        if re.match(r"^[a-z][a-z0-9+.-]*:", link, re.IGNORECASE):
            continue
        path, _, anchor = link.partition("#")
        if path and not exists(path, known):
            wrong.append(f"{readme}:{number}: the link to {path} leads nowhere")
        elif not path and anchor not in anchors:
            wrong.append(f"{readme}:{number}: no heading has the anchor #{anchor}")
    if fence is not None:
        wrong.append(f"{readme}: a block of code is never closed")
    wrong += [f"{readme}: the command `{command}` is missing" for command in COMMANDS if command not in text]
    if not paths:
        wrong.append(f"{readme}: it names no path of the repository, so it has no map")
    if wrong:
        sys.exit("\n".join(wrong))
    print(f"{len(links)} links and {paths} paths are right")


if __name__ == "__main__":
    main()
