"""A private Postfix: its own configuration, queue, log and ports, in a folder below /tmp that goes with it.

The system's configuration and queue are neither read nor touched. Every listener is an smtpd of its own with its own
main.cf settings, so one instance shows many wirings at once. It knows nothing of policyd. Needs root and the Postfix
programs (see `tests/helpers/programs.py`). Implements nothing of the documentation; the facts are in master(5) and
postconf(5).
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.e2e.smtp import SmtpClient
from tests.helpers.waiting import until

_PREFIX = "policyd-postfix-"
QUEUES_WITH_WORK = ("maildrop", "incoming", "active", "deferred", "hold", "corrupt")

_MAIN = {
    "compatibility_level": "3.6",
    "myhostname": "hub.example",
    "mydomain": "hub.example",
    "myorigin": "hub.example",
    "mydestination": "hub.example",
    "mynetworks": "10.255.255.255/32",  # not 127.0.0.1, or the test's own client may relay
    "inet_interfaces": "127.0.0.1",
    "inet_protocols": "all",  # ipv4 alone would make smtpd refuse XCLIENT ADDR=IPV6:
    "maillog_file_prefixes": "/tmp",
    "local_recipient_maps": "",
    "alias_maps": "",
    "alias_database": "",
    "biff": "no",
    "append_dot_mydomain": "no",
    "smtputf8_enable": "yes",
    "smtpd_peername_lookup": "no",
    "smtp_dns_support_level": "disabled",
    "smtpd_authorized_xclient_hosts": "127.0.0.1",
    "smtpd_tls_security_level": "may",
    "smtpd_tls_ask_ccert": "yes",
    "smtpd_tls_received_header": "yes",
    "smtpd_tls_loglevel": "1",
    "smtpd_tls_fingerprint_digest": "sha256",
    # one client makes all the connections and all the mistakes
    "smtpd_client_connection_count_limit": "0",
    "smtpd_hard_error_limit": "1000",
    "smtpd_soft_error_limit": "1000",
    "smtpd_error_sleep_time": "0",
    "smtpd_junk_command_limit": "1000",
    "in_flow_delay": "0",
}

_MASTER = """\
pickup     unix       n - n 60 1 pickup
cleanup    unix       n - n -  0 cleanup
qmgr       unix       n - n 300 1 qmgr
tlsmgr     unix       - - n 1000? 1 tlsmgr
rewrite    unix       - - n -  - trivial-rewrite
bounce     unix       - - n -  0 bounce
defer      unix       - - n -  0 bounce
trace      unix       - - n -  0 bounce
verify     unix       - - n -  1 verify
flush      unix       n - n 1000? 0 flush
proxymap   unix       - - n -  - proxymap
proxywrite unix       - - n -  1 proxymap
smtp       unix       - - n -  - smtp
relay      unix       - - n -  - smtp
showq      unix       n - n -  - showq
error      unix       - - n -  - error
retry      unix       - - n -  - error
discard    unix       - - n -  - discard
anvil      unix       - - n -  1 anvil
scache     unix       - - n -  1 scache
postlog    unix-dgram n - n -  1 postlogd
"""


@dataclass(frozen=True, slots=True)
class Listener:
    """A server on a port of 127.0.0.1 with main.cf settings of its own, chrooted to the queue or not."""

    port: int
    settings: Mapping[str, str] = field(default_factory=dict)
    chroot: bool = False
    program: str = "smtpd"


class Postfix:
    """A Postfix instance for the length of a `with` block.

    `settings` go over the defaults of this module into main.cf; `configure(folder)`, where given, is called before
    Postfix starts, for what must lie beside its queue. Both folders exist before that: `folder`, `queue`.
    """

    def __init__(self, listeners: Mapping[str, Listener], settings: Mapping[str, str]) -> None:
        self.listeners = dict(listeners)
        self.settings = dict(settings)
        _sweep()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir="/tmp"))
        self.folder.chmod(0o755)  # the user postfix must come through
        self.queue = self.folder / "queue"
        self.log_file = self.folder / "postfix.log"
        self._etc = self.folder / "etc"
        for name in ("etc", "queue", "data"):
            (self.folder / name).mkdir(mode=0o755)
        owner = pwd.getpwnam("postfix")
        os.chown(self.folder / "data", owner.pw_uid, owner.pw_gid)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Write the configuration, start, and return when every smtpd has greeted a client and let it go."""
        self._write_configuration()
        self._postfix("start")
        for name, listener in self.listeners.items():
            if listener.program == "smtpd":
                self._until(partial(_greets, listener.port), f"listener {name} does not greet")

    def reload(self) -> None:
        """Write the configuration again and make it count for every later connection."""
        self._write_configuration()
        self.reloaded_by(lambda: self._postfix("reload"))

    def reloaded_by(self, reload: Callable[[], None]) -> None:
        """Let somebody reload Postfix, and return when the new configuration counts for every later connection."""
        before = self.log().count("reload -- version")
        old = {pid for pid in _processes(self.queue) if _command_name(pid) == "smtpd"}
        reload()
        self._until(lambda: self.log().count("reload -- version") > before, "the master did not reload")
        self._until(lambda: not old & _processes(self.queue), "old smtpd processes stay")

    def stop(self) -> None:
        """End every process of this instance: the master takes its children along, what is left then is killed."""
        master = self._master()
        if master is not None:
            _send(master, signal.SIGTERM)
        with contextlib.suppress(AssertionError):
            self._until(lambda: not _processes(self.queue), "processes stay", seconds=5)
        for pid in _processes(self.queue):
            _send(pid, signal.SIGKILL)

    def close(self) -> None:
        """stop(), and remove the folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def log(self) -> str:
        """What this instance has logged so far."""
        with contextlib.suppress(FileNotFoundError):
            return self.log_file.read_text("utf-8", "backslashreplace")
        return ""

    def connect(self, listener: str) -> SmtpClient:
        return SmtpClient(self.listeners[listener].port)

    def queued(self) -> list[str]:
        """The queue files of messages that are still under way, deferred ones too."""
        found: list[str] = []
        for name in QUEUES_WITH_WORK:
            for _, _, files in os.walk(self.queue / name):
                found += [f"{name}/{file}" for file in files]
        return found

    def wait_until_idle(self) -> None:
        """Return when no message is in the queue any more; a deferred one is a failure."""
        self._until(lambda: not self.queued(), "mail stays in the queue")

    def _until(self, done: Callable[[], bool], complaint: str, seconds: float = 60) -> None:
        until(done, lambda: f"{complaint}; log of Postfix:\n{self.log()[-3000:]}", seconds)

    def _write_configuration(self) -> None:
        own = {
            "queue_directory": str(self.queue),
            "data_directory": str(self.folder / "data"),
            "maillog_file": str(self.log_file),
        }
        main = {**_MAIN, **own, **self.settings}
        self._replace("main.cf", "".join(f"{name} = {value}\n" for name, value in main.items()))
        master: list[str] = []
        for name, listener in self.listeners.items():
            chroot = "y" if listener.chroot else "n"
            master.append(f"127.0.0.1:{listener.port} inet n - {chroot} - - {listener.program}")
            master.append(f"  -o syslog_name=postfix/{name}")
            # the braces let a value hold blanks
            master += [f"  -o {{ {key} = {value} }}" for key, value in listener.settings.items()]
        self._replace("master.cf", "\n".join(master) + "\n" + _MASTER)

    def _replace(self, name: str, text: str) -> None:
        """A file anew, in one step: a daemon that starts meanwhile and reads half of it is not tried again for 60 s.

        It looks older than it is: each program of Postfix waits for a second before it believes a new one.
        """
        new = self._etc / f"{name}.new"
        new.write_text(text, "utf-8")
        os.utime(new, (1e9, 1e9))
        new.replace(self._etc / name)

    def _postfix(self, command: str) -> None:
        done = subprocess.run(
            ["postfix", "-c", str(self._etc), command], capture_output=True, text=True, timeout=120, check=False
        )
        if done.returncode != 0:
            raise AssertionError(f"postfix {command}: {done.returncode}\n{done.stdout}{done.stderr}\n{self.log()}")

    def _master(self) -> int | None:
        with contextlib.suppress(OSError, ValueError):
            pid = int((self.queue / "pid/master.pid").read_text())
            return pid if pid in _processes(self.queue) else None
        return None


def _processes(queue: Path) -> set[int]:
    """All processes of the instance with this queue: Postfix daemons work in their queue folder."""
    found: set[int] = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                if Path(os.readlink(entry / "cwd")).is_relative_to(queue):
                    found.add(int(entry.name))
    return found


def _sweep() -> None:
    """End instances of test runs that were killed before they could; those of living ones are left alone."""
    for folder in Path("/tmp").glob(f"{_PREFIX}*"):
        owner = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if not Path(f"/proc/{owner}").exists():
            for pid in _processes(folder / "queue"):
                _send(pid, signal.SIGKILL)
            shutil.rmtree(folder, ignore_errors=True)


def _greets(port: int) -> bool:
    """Whether an smtpd serves the port; QUIT is waited for, so that nothing of this visit is left over."""
    try:
        with SmtpClient(port) as client:
            return client.greeting.code == 220 and client.quit().code == 221
    except (OSError, ValueError):
        return False


def _command_name(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
