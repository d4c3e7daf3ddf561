"""Checks that every test named in the threat model exists, and that every threat names at least one.

    check_threat_model.py [deploy/docs/threat-model.md]

In the "tests" column of a table, a path in backticks is a test file, and the names after it are tests in that file.
A Rust test has an attribute that ends in `test`, or `on_both_backends`. The name of a Python test begins with `test_`. Relative links on the page must also lead to tracked files.
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
CODE = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


def has_test(source, name, is_python):
    if is_python:
        return name.startswith("test_") and re.search(rf"^(async )?def {name}\(", source, re.MULTILINE) is not None
    attribute = r"#\[((\w+::)*test|on_both_backends)[^\]]*\]"
    return re.search(rf"{attribute}\s*(#\[[^\]]*\]\s*)*(pub )?(async )?fn {name}\(", source) is not None


def cells(line):
    """Splits a row into cells. A `|` within backticks is text, not a separator."""
    text = re.sub(r"`[^`]*`", lambda span: span[0].replace("|", "\0"), line)
    return [cell.strip().replace("\0", "|") for cell in text.strip().strip("|").split("|")]


def check(page, tracked):
    wrong, count, column = [], 0, None
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if not line.startswith("|"):
            column = None
        elif set(line) <= set("|-: "):
            continue
        elif column is None:
            column = cells(line).index("tests") if "tests" in cells(line) else -1
        elif column >= 0:
            file, source, found = None, "", 0
            row = cells(line)
            for span in CODE.findall(row[column] if column < len(row) else ""):
                if "/" in span:
                    file, source = span, (ROOT / span).read_text(encoding="utf-8") if span in tracked else ""
                    if not source:
                        wrong.append(f"{page}:{number}: {span} is not a tracked file")
                elif file is None:
                    wrong.append(f"{page}:{number}: {span} comes before any file")
                else:
                    found += 1
                    if source and not has_test(source, span, file.endswith(".py")):
                        wrong.append(f"{page}:{number}: {file} has no test {span}")
            if not found:
                wrong.append(f"{page}:{number}: this threat names no test")
            count += found
        for link in LINK.findall(line):
            target = (page.parent / link).resolve()
            if not target.is_relative_to(ROOT) or str(target.relative_to(ROOT)) not in tracked:
                wrong.append(f"{page}:{number}: the link to {link} is broken")
    if not count:
        wrong.append(f"{page}: no table has a column named tests")
    return wrong, count


def main():
    page = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "deploy/docs/threat-model.md")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    wrong, count = check(page, set(listed.split("\0")))
    if wrong:
        sys.exit("\n".join(wrong))
    print(f"all {count} tests exist")


if __name__ == "__main__":
    main()
