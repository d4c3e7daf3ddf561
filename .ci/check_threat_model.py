"""Checks that every test which the threat model names exists, and that every threat names one.

    check_threat_model.py [deploy/docs/threat-model.md]

In the column "tests" of a table, a path in backticks is a file of tests, and the names after it are tests in that file.
A Rust test has an attribute that ends in `test`, or stands in `on_both_backends!`; a Python test begins with `test_`.
Relative links of the page must lead to a tracked file as well.
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
    if re.search(rf"#\[(\w+::)*test[^\]]*\]\s*(#\[[^\]]*\]\s*)*(pub )?(async )?fn {name}\(", source):
        return True
    declared = re.search(rf"^\s*async fn {name}\(database: TestDatabase\)", source, re.MULTILINE)
    return declared is not None and "on_both_backends!" in source


def cells(line):
    """The cells of a row; a `|` within backticks is text."""
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
                        wrong.append(f"{page}:{number}: there is no tracked {span}")
                elif file is None:
                    wrong.append(f"{page}:{number}: {span} stands before any file")
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
                wrong.append(f"{page}:{number}: the link to {link} leads nowhere")
    if not count:
        wrong.append(f"{page}: no table has a column of tests")
    return wrong, count


def main():
    page = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "deploy/docs/threat-model.md")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    wrong, count = check(page, set(listed.split("\0")))
    if wrong:
        sys.exit("\n".join(wrong))
    print(f"{count} tests are there")


if __name__ == "__main__":
    main()
