"""Private PostgreSQL server, run by the same script as in the Rust tests. It ends with this process."""

import os
import pathlib
import shutil
import subprocess
import tempfile

from ports import free_ports

SUPERVISOR = pathlib.Path(__file__).resolve().parent.parent.parent / "shared/db/src/testing/postgres-supervisor.sh"


class Postgres:
    def __init__(self):
        found = shutil.which("initdb")
        binaries = [pathlib.Path(found).resolve()] if found else sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        if not binaries:
            raise RuntimeError("there is no initdb; on Debian: apt-get install -y postgresql")
        self.binaries = binaries[-1].parent
        folder = tempfile.mkdtemp(prefix="private-postgres-")
        # PostgreSQL refuses to run as root.
        owner = "postgres" if os.getuid() == 0 else None
        if owner:
            shutil.chown(folder, owner, owner)
        self.process = subprocess.Popen(
            ["sh", "-c", SUPERVISOR.read_text(), "sh", str(self.binaries), folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            bufsize=1,
            cwd="/",
            user=owner,
            group=owner,
            extra_groups=[] if owner else None,
        )
        self.command("init")
        [self.port] = free_ports(1)
        self.start()

    def command(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        if answer != "ok":
            raise RuntimeError(f"PostgreSQL: {command}: {answer}")

    def start(self):
        self.command(f"start {self.port}")

    def database(self, name):
        """Creates a database, and returns its URL."""
        where = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres"]
        subprocess.run([self.binaries / "createdb", *where, name], check=True)
        return f"postgres://postgres@127.0.0.1:{self.port}/{name}?sslmode=disable"

    def sql(self, name, statement):
        """Runs a statement on a database."""
        where = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres"]
        subprocess.run([self.binaries / "psql", *where, "-q", "-d", name, "-c", statement], check=True)

    def value(self, name, query):
        """Returns the single value that a query on a database returns, as text."""
        where = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres"]
        return subprocess.run([self.binaries / "psql", *where, "-At", "-d", name, "-c", query], check=True, capture_output=True, text=True).stdout.strip()

    def end(self):
        """Stops the server and deletes its data."""
        self.process.stdin.close()
        self.process.wait()
