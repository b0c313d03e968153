"""Programs on a CPU of their own, and what the operating system says they have used. Linux (``/proc``)."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

_TICK: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_STOP_SECONDS: Final = 10.0

CPUS: Final = sorted(os.sched_getaffinity(0))
LOAD_CPU: Final = CPUS[0]
"""For the upstream, the clients and what measures."""
PROXY_CPU: Final = CPUS[1] if len(CPUS) > 1 else CPUS[0]
"""For the proxy and everything that it starts."""


def busy_seconds(cpu: int) -> float:
    """How long a CPU has run processes so far, whosever."""
    for line in Path("/proc/stat").read_text("ascii").splitlines():
        if line.startswith(f"cpu{cpu} "):
            # Not what interrupts took: a proxy's own traffic is in that.
            return sum(map(int, line.split()[1:4])) / _TICK
    return 0.0


def allow_files(wanted: int) -> int:
    """Raise the limit of open files as far as possible, for this process and those it starts; what it is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return soft if soft != resource.RLIM_INFINITY else wanted


def free_port() -> int:
    """A port on which nobody listens now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def make_urgent(pid: int) -> bool:
    """Let a process run at once whenever it can: it shares its CPU and must not time its own waiting. Needs root."""
    try:
        os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(1))
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _on_cpu(number: int) -> Iterator[None]:
    """What is started inside runs on that CPU, with all its threads and children."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {number})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _stat(pid: int | str) -> list[str]:
    """``/proc/PID/stat`` from the third field, the state, on; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    except OSError:
        return []


class Process:
    """A program, and whatever it starts.

    :param log: the file that gets what it writes.
    """

    def __init__(
        self, command: Sequence[str], cpu: int, log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        self.log = log
        # In a session of its own: Ctrl-C is for this process, which then stops it in order.
        with log.open("ab") as out, _on_cpu(cpu):
            self._root = subprocess.Popen(
                list(command),
                cwd=cwd,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._root.pid

    @property
    def has_ended(self) -> bool:
        return self._root.poll() is not None

    def tree(self) -> list[int]:
        """The process and its descendants."""
        children: dict[int, list[int]] = {}
        for name in filter(str.isdigit, os.listdir("/proc")):
            if fields := _stat(name):
                children.setdefault(int(fields[1]), []).append(int(name))
        found = [self.pid]
        for pid in found:
            found += children.get(pid, [])
        return found

    def cpu_seconds(self) -> float:
        """User and system time of the whole tree so far, with the children that were waited for."""
        return sum(sum(map(int, _stat(pid)[11:15])) for pid in self.tree()) / _TICK

    def memory(self) -> int:
        """Resident bytes of the whole tree; what its processes share counts once for each."""
        total = 0
        for pid in self.tree():
            with contextlib.suppress(OSError):
                total += int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * _PAGE
        return total

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for what is still there after a while."""
        tree = self.tree()
        self._root.terminate()
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._root.wait(_STOP_SECONDS)
        finally:  # a second Ctrl-C leaves nothing behind either
            for pid in tree:
                # A number that belongs to another session by now has been given to somebody else.
                with contextlib.suppress(ProcessLookupError):
                    if os.getsid(pid) == self.pid:
                        os.kill(pid, signal.SIGKILL)
            self._root.wait()


def wait_until(condition: Callable[[], object], process: Process, seconds: float) -> None:
    """Until `condition`, a function, returns something true; OSErrors count as no.

    :raises RuntimeError: the process ends before, or the time is over; with the end of its log.
    """
    until = time.monotonic() + seconds
    while time.monotonic() < until and not process.has_ended:
        with contextlib.suppress(OSError):
            if condition():
                return
        time.sleep(0.05)
    why = "ended" if process.has_ended else f"was not ready after {seconds:g} s"
    raise RuntimeError(f"{why}; its log ends:\n{process.log.read_text('utf-8', 'replace')[-2000:]}")
