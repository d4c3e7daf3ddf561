"""Checks Markdown files against the repository: links, anchors, the paths that they name, commands, error reasons.

    check_readme.py [README.md deploy/docs/sessions.md ...]

Without arguments these are all that git tracks. A path counts as existing when git tracks it, so that nothing on one
machine alone hides a mistake. Checked are

- every relative link, with its anchor, be it to the same file or to another one;
- every `path/like/this` whose first part is a top-level folder of the repository, and the dotfiles at the top;
- under a heading that says "map", "where" or "to change": every `path`, which every service has where it does not begin
  at the top, every `file.ext`, wherever that is, and the folders that the lines of a drawn tree begin with.

Without arguments it also checks that one file has each command to start and to test, and that sessions.md has every
reason of `proto/*/v1/error_reason.proto`.

A path may hold `*`, `{a,b}` and `<name>`, which stands for any one name.
"""

import fnmatch
import itertools
import pathlib
import re
import subprocess
import sys

COMMANDS = ("cargo run --release", "cargo test --workspace")
REASONS = "deploy/docs/sessions.md"
REASON = re.compile(r"^  ERROR_REASON_(\w+) = [1-9]", re.MULTILINE)

FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
HEADING = re.compile(r"^(#{1,6})\s+(.+?)\s*#*$")
ANCHOR = re.compile(r'<a id="([^"]+)"></a>')
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
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", ANCHOR.sub("", heading)).replace("`", "").lower()
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


class Page:
    """A Markdown file: its anchors, its links and the paths that it names, each with the number of its line."""

    def __init__(self, file):
        self.file, self.text = file, file.read_text(encoding="utf-8")
        self.anchors, self.links, self.paths = {}, [], []
        self.is_whole = True
        self._read()

    def _read(self):
        fence, in_map, map_depth = None, False, 0
        for number, line in enumerate(self.text.splitlines(), 1):
            mark = FENCE.match(line)
            if mark and (fence is None or line.strip().startswith(fence) and not line.strip().strip(fence[0])):
                fence = mark[1] if fence is None else None
                continue
            if fence is not None:
                folder = TREE.match(line)
                if in_map and folder:
                    self.paths.append((number, folder[1], in_map, True))
                continue
            if heading := HEADING.match(line):
                depth = len(heading[1])
                if not in_map or depth <= map_depth:
                    in_map, map_depth = bool(MAP.search(heading[2])), depth
                self._add_anchor(slug(heading[2]))
            for anchor in ANCHOR.findall(line):
                self._add_anchor(anchor)
            for link in LINK.finditer(CODE.sub("``", line)):
                self.links.append((number, link[1] or link[2]))
            for span in CODE.finditer(line):
                self.paths.append((number, span[2].strip(), in_map, False))
        self.is_whole = fence is None

    def _add_anchor(self, name):
        count = self.anchors[name] = self.anchors.get(name, -1) + 1
        if count:
            self.anchors.setdefault(f"{name}-{count}", 0)


class Repository:
    """The files that git tracks, and the pages that links lead to."""

    def __init__(self, root):
        self.root, self.known = root, tracked(root)
        self.top = {name for name in self.known if "/" not in name and name != "."}
        self.services = [name for name in self.top if name.endswith("-service")]
        self._pages = {}

    def page(self, file):
        if file not in self._pages:
            self._pages[file] = Page(file)
        return self._pages[file]

    def is_path(self, span, in_map):
        return is_path(span, self.top, in_map)

    def has(self, path, in_map):
        path = path.partition(":")[0]
        return exists(path, self.known) or in_map and exists_in_map(path, self.known, self.services)

    def wrong_link(self, page, link):
        """Says why a relative link leads nowhere; None if it leads somewhere."""
        path, _, anchor = link.partition("#")
        target = page.file
        if path:
            target = (page.file.parent / path).resolve()
            if not target.is_relative_to(self.root) or not exists(str(target.relative_to(self.root)), self.known):
                return f"the link to {path} leads nowhere"
        if anchor and target.suffix == ".md" and anchor not in self.page(target).anchors:
            return f"{path or 'this file'} has no anchor #{anchor}"
        return None


def check(page, repository):
    """Finds what is wrong with a page, and counts the links and paths that were looked at."""
    name = page.file.relative_to(repository.root)
    wrong, links, paths = [], 0, 0
    for number, path, in_map, is_folder in page.paths:
        if is_folder or repository.is_path(path, in_map):
            paths += 1
            if not repository.has(path, in_map and not is_folder):
                wrong.append(f"{name}:{number}: there is no tracked `{path}`")
    for number, link in page.links:
        links += 1
        if not re.match(r"^[a-z][a-z0-9+.-]*:", link, re.IGNORECASE):
            if problem := repository.wrong_link(page, link):
                wrong.append(f"{name}:{number}: {problem}")
    if not page.is_whole:
        wrong.append(f"{name}: a block of code is never closed")
    return wrong, links, paths


def missing_reasons(root):
    """Returns a line for every error reason that the table of what a client does on each reason lacks."""
    text = (root / REASONS).read_text(encoding="utf-8")
    protos = sorted(root.glob("proto/*/v1/error_reason.proto"))
    found = [reason for proto in protos for reason in REASON.findall(proto.read_text(encoding="utf-8"))]
    if not found:
        return ["no proto has an error reason"]
    return [f"{REASONS}: the reason `{reason}` is missing" for reason in found if f"`{reason}`" not in text]


def main():
    repository = Repository(pathlib.Path(__file__).resolve().parent.parent)
    files = [pathlib.Path(name).resolve() for name in sys.argv[1:]]
    if not files:
        files = sorted(repository.root / name for name in repository.known if name.endswith(".md"))
    if missing := [str(file) for file in files if not file.is_file()]:
        sys.exit(f"{', '.join(missing)} not found")
    pages = [repository.page(file) for file in files]
    found = [check(page, repository) for page in pages]
    wrong, links, paths = ([each[index] for each in found] for index in range(3))
    wrong = [line for lines in wrong for line in lines]
    if not sys.argv[1:]:
        text = "\n".join(page.text for page in pages)
        wrong += [f"no file has the command `{command}`" for command in COMMANDS if command not in text]
        wrong += missing_reasons(repository.root)
    if not sum(paths):
        wrong.append("no path of the repository is named, so there is no map")
    if wrong:
        sys.exit("\n".join(wrong))
    print(f"{sum(links)} links and {sum(paths)} paths in {len(files)} files are right")


if __name__ == "__main__":
    main()
