"""A PostgreSQL server for tests, started from the distribution's programs and gone with the test.

It runs as a user without rights (PostgreSQL refuses root), in a directory of its own, and listens on a socket there,
so no port is taken; whoever connects needs the password. Its standard input is ours: it ends when this process does,
however that ends. Where its programs are missing, tests fail with the sentence that says how to get them.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Self
from urllib.parse import quote

import psycopg

MISSING = (
    "PostgreSQL's programs are not installed (initdb is neither in /usr/lib/postgresql/*/bin nor in PATH). These tests "
    "need them: apt-get install postgresql. `make test` does without"
)
PASSWORD = "p@ss:w/rd #" + secrets.token_hex(8)
"""With characters that a URL must escape; new in each run, so that wherever it turns up, it leaked."""
START_S = 60.0
FAST = ("fsync=off", "full_page_writes=off", "synchronous_commit=off")
"""For tests that pull no plug."""
DURABLE = ("fsync=on", "full_page_writes=on", "synchronous_commit=on", "recovery_init_sync_method=syncfs")
"""For those that do; after a crash one file system is synced instead of a thousand files."""
SETTINGS = ("listen_addresses=''", "max_connections=60", "shared_buffers=16MB", "lc_messages=C", "log_statement=none")
_RUN = 'trap "" INT TERM; "$@" </dev/null & server=$!; cat >/dev/null; kill -QUIT $server; wait $server'
"""Ends the server when standard input ends, and reaps it: one that is left unburied keeps the next from starting."""


def binaries(installed: Path = Path("/usr/lib/postgresql")) -> Path:
    """The directory of the newest server programs.

    Raises:
        AssertionError: There are none.
    """
    found = sorted(installed.glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    named = shutil.which("initdb")
    if not found and named is None:
        raise AssertionError(MISSING)
    return (found[-1] if found else Path(str(named))).resolve().parent


def _user() -> pwd.struct_passwd | None:
    """Whom the server runs as; None for whoever runs the tests."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


class Server:
    """One cluster. ``with Server() as server``: then :meth:`new_url` makes databases."""

    def __init__(self, *settings: str) -> None:
        """Make a cluster, in whose configuration the settings stand.

        Raises:
            AssertionError: PostgreSQL is not installed, or does not work.
        """
        self._binaries = binaries()
        self._user = _user()
        self.directory = Path(tempfile.mkdtemp(prefix="postgres-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._made = 0
        try:
            self._initialize(settings)
        except BaseException:
            self._remove()
            raise

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._remove()

    def new_url(self) -> str:
        """URL of a new, empty database."""
        self._made += 1
        name = f"ledger_{self._made}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE template0 STRATEGY wal_log")
        return self.url(name)

    def new_schema(self, name: str) -> str:
        """URL of a new, empty schema in the database that is there: much less to sync after a crash."""
        self.execute(f"CREATE SCHEMA {name}")
        return f"{self.url()}&options=-csearch_path%3D{name}"

    def url(self, database: str = "postgres", password: str = PASSWORD) -> str:
        """Of a database, for the user that tests are."""
        return f"postgresql://tester:{quote(password, safe='')}@/{database}?host={quote(str(self.directory), safe='')}"

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """One statement outside of a transaction; its rows, if it has any."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def start(self) -> None:
        """Run it, and return when it takes connections."""
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _RUN, "sh", self._binaries / "postgres", "-D", self._cluster],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.directory,
            user=self._user.pw_uid if self._user else None,
            group=self._user.pw_gid if self._user else None,
            extra_groups=[] if self._user else None,
            start_new_session=True,
        )
        ready = threading.Event()
        self._reader = threading.Thread(target=self._read_log, args=(self._process, ready), daemon=True)
        self._reader.start()
        assert ready.wait(START_S) and self._process.poll() is None, f"PostgreSQL did not start:\n{self.log()}"

    def kill(self) -> None:
        """SIGKILL, as a power cut would. Harmless when it does not run."""
        if self._process is None:
            return
        pid = self._cluster / "postmaster.pid"
        if pid.exists():
            os.kill(int(pid.read_text().split()[0]), signal.SIGKILL)
        assert self._process.stdin is not None and self._process.stderr is not None
        self._process.stdin.close()
        self._process.wait(START_S)
        self._reader.join(START_S)  # its log ends when the last of its processes does: then another may start
        self._process.stderr.close()
        self._process = None

    def log(self) -> str:
        """What it said since it was made."""
        return self._log.read_text() if self._log.exists() else ""

    @property
    def _cluster(self) -> Path:
        return self.directory / "cluster"

    @property
    def _log(self) -> Path:
        return self.directory / "log"

    def _initialize(self, settings: tuple[str, ...]) -> None:
        password = self.directory / "password"
        password.write_text(PASSWORD)
        if self._user is not None:
            for path in (self.directory, password):
                os.chown(path, self._user.pw_uid, self._user.pw_gid)
        done = subprocess.run(
            [self._binaries / "initdb", "-D", self._cluster, "-U", "tester", "--pwfile", password, "--no-sync",
             "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8"],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.directory,
            user=self._user.pw_uid if self._user else None,
            group=self._user.pw_gid if self._user else None,
            extra_groups=[] if self._user else None,
        )  # fmt: skip
        assert done.returncode == 0, f"initdb failed:\n{done.stdout}{done.stderr}"
        lines = (*SETTINGS, f"unix_socket_directories='{self.directory}'", *settings)
        with (self._cluster / "postgresql.auto.conf").open("a") as config:
            config.write("\n".join(lines) + "\n")

    def _read_log(self, process: subprocess.Popen[bytes], ready: threading.Event) -> None:
        assert process.stderr is not None
        with self._log.open("ab") as log:
            for line in process.stderr:
                log.write(line)
                log.flush()
                if b"ready to accept connections" in line:
                    ready.set()
        ready.set()  # it has ended: whoever waits looks

    def _remove(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)
