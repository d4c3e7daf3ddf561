"""Checks the comments of our sources, by default in all tracked files.

    check_comments.py [FILE...]

- A doc comment starts with a verb (functions) or a noun (types, fields). Its first line, and that of any other comment,
  does not begin with Of, Who, Whoever, Whose, What, Where, When, Which, That, Those, Nobody or Somebody. This holds for
  Rust, protos, SQL, JavaScript, Python with its docstrings, YAML, and programs that begin with `#!`.
- In Rust and protos, comments are at most 100 columns wide, and code 120.
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
RIDDLE = re.compile(r"(Of|Who|Whoever|Whose|What|Where|When|Which|That|Those|Nobody|Somebody)\b")
# Comments that fill their lines. Those behind code are not looked at.
RUST = re.compile(r"\s*//[/!]? ?(.*)")
CODE_WIDTH = 120
COMMENT_WIDTH = 100
PROTO = re.compile(r"\s*// ?(.*)")
SQL = re.compile(r"\s*-- ?(.*)")
HASH = re.compile(r"\s*# ?(.*)")
DOCSTRING = re.compile(r'\s*"""(.*)')


def riddles(text, comment):
    """The numbers and texts of the first lines that begin with one of the words."""
    is_within = False
    for number, line in enumerate(text.splitlines(), 1):
        found = comment.fullmatch(line)
        if found and not is_within and RIDDLE.match(found[1]):
            yield number, found[1]
        is_within = found is not None


def too_wide(text):
    """The numbers and widths of lines that are too wide."""
    for number, line in enumerate(text.splitlines(), 1):
        limit = COMMENT_WIDTH if line.lstrip().startswith("//") else CODE_WIDTH
        if len(line) > limit:
            yield number, f"{len(line)} columns, of at most {limit}"


def comments_of(name):
    """Returns the patterns of a file's comments; none if the file is not checked."""
    suffix = pathlib.PurePosixPath(name).suffix
    if name.startswith("proto/google/"):
        return []
    if not suffix and (ROOT / name).is_file():
        return [HASH] if (ROOT / name).read_bytes().startswith(b"#!") else []
    by_suffix = {".rs": [RUST], ".proto": [PROTO], ".js": [PROTO], ".sql": [SQL], ".py": [HASH, DOCSTRING]}
    return by_suffix.get(suffix, [HASH] if suffix in (".sh", ".toml", ".yaml", ".yml") else [])


def check(names):
    wrong, count = [], 0
    for name in names:
        if not (comments := comments_of(name)):
            continue
        count += 1
        text = (ROOT / name).read_text(encoding="utf-8")
        for comment in comments:
            wrong += [f"{name}:{number}: begins with a riddle: {line}" for number, line in riddles(text, comment)]
        if name.endswith((".rs", ".proto")):
            wrong += [f"{name}:{number}: {width}" for number, width in too_wide(text)]
    return wrong, count


def main(arguments):
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    # Files that are deleted and not yet committed are still tracked.
    names = arguments or [name for name in listed if (ROOT / name).exists()]
    wrong, count = check(names)
    if not count:
        wrong = ["no file to look at"]
    print("\n".join(wrong) if wrong else f"the comments of {count} files begin well and fit")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
