# SPDX-License-Identifier: LGPL-2.1-or-later
"""A small runner for tests of the nbdctl program: the program under test, real servers beside it, TAP on stdout.

A test is a function; it fails by raising. There is no skipping: what cannot run has failed. Tests run in several
threads, since most of them wait.

Everything that is started is a process group of its own, remembered here, and ended by its id; everything is kept in one
temporary folder. Both are gone at the end, also after Ctrl-C.
"""

import argparse
import concurrent.futures
import contextlib
import ctypes
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.parse

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# Far above what an answer needs, so that a loaded machine fails nothing.
RUN_TIMEOUT = 30
SERVER_TIMEOUT = 15

# No server may make nbdctl use more memory than this, whatever it sends.
RSS_LIMIT_KIB = 64 * 1024

_nbdctl = None
_sanitized = False
_scratch = None
_numbers = itertools.count(1)
_provision_lock = threading.Lock()


class Failure(AssertionError):
    """What a test found wrong."""


def check(condition, message):
    if not condition:
        raise Failure(message)


def check_equal(found, expected, what):
    check(found == expected, f"{what}: expected {expected!r}, found {found!r}")


# ---- processes ----


class Processes:
    """What we started and have not seen the end of."""

    def __init__(self):
        self._lock = threading.Lock()
        self._running = {}
        self._ended = False

    def start(self, argv, **kwargs):
        with self._lock:
            if self._ended:
                raise Failure("the run is being ended")
            process = subprocess.Popen(argv, start_new_session=True, **kwargs)
            self._running[process.pid] = process
        return process

    def adopt(self, pid):
        """A daemon that was orphaned by its parent, and so is our child (_become_subreaper)."""
        process = Daemon(pid)
        with self._lock:
            self._running[pid] = process
        return process

    def wait(self, process):
        """Until it has ended; returns its resource usage."""
        _, status, usage = os.wait4(process.pid, 0)
        with self._lock:
            process.returncode = os.waitstatus_to_exitcode(status)
            del self._running[process.pid]
        return usage

    def signal(self, process, number):
        """To its whole group. A process that was not waited for keeps its id, so this cannot hit a stranger."""
        with self._lock:
            if process.pid in self._running:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)

    def ended(self):
        """Whether nothing can be started any more, and so nothing is worth waiting for."""
        return self._ended

    def end_all(self):
        with self._lock:
            self._ended = True
            for pid in self._running:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)


class Daemon:
    """What Popen is for others."""

    def __init__(self, pid):
        self.pid = pid
        self.returncode = None


_processes = Processes()


def _become_subreaper():
    """Orphans of what we start become our children, instead of those of init."""
    pr_set_child_subreaper = 36
    check_equal(ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1, 0, 0, 0), 0, "prctl(PR_SET_CHILD_SUBREAPER)")


def _group_is_empty(pid):
    """What has ended already is none of it."""
    with contextlib.suppress(ChildProcessError):
        while os.waitid(os.P_PGID, pid, os.WEXITED | os.WNOHANG):
            pass
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return True
    return False


def _check_no_survivors(pid):
    """Children may end a moment later than their parent."""
    for _ in range(100):
        if _group_is_empty(pid):
            return
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    raise Failure("a child process was left behind")


# ---- the program under test ----


class Result:
    def __init__(self, argv, status, out, err, seconds, rss_kib):
        self.argv = argv
        self.status = status
        self.out = out
        self.err = err
        self.seconds = seconds
        self.rss_kib = rss_kib

    def __str__(self):
        return f"{' '.join(self.argv)[:300]}: status {self.status}, stdout {self.out[:400]!r}, stderr {self.err[:1200]!r}"

    def check(self, condition, message):
        check(condition, f"{message} ({self})")

    def worked(self):
        """Done without a remark; returns what it printed."""
        self.check(self.status == 0, "it should have worked")
        self.check(self.err == b"", "there should be nothing on stderr")
        return self.out.decode("utf-8")

    def failed(self, match, status=1, hint=None):
        """One clear line on stderr that matches, with its hint (True: there must be one), and nothing on stdout."""
        self.check(self.status == status, f"the exit status should be {status}")
        self.check(self.out == b"", "there should be nothing on stdout")
        self.remarked(match, hint)

    def remarked(self, match, hint=None):
        """What failed() says of stderr."""
        lines = self.error_lines()
        self.check(lines, "there should be an error on stderr")
        self.check(re.search(match, lines[0]), f"the error should match {match!r}")
        self.check(not re.match(HINT, lines[0]), "the error should come before its hint")
        self.check(len(lines) <= 2, "there should be one error and at most one hint on stderr")
        self.check(len(lines) == 1 or re.match(HINT, lines[1]), "the second line should be a hint")
        if hint is not None:
            found = lines[1] if len(lines) > 1 else ""
            self.check(re.search(hint, found) if isinstance(hint, str) else bool(found) == hint, f"hint: {hint!r}")

    def error_lines(self):
        """stderr, which must be fit for a terminal whatever the server sent."""
        try:
            text = self.err.decode("utf-8")
        except UnicodeDecodeError:
            raise Failure(f"stderr is not UTF-8 ({self})") from None
        if not text:
            return []
        self.check(text.endswith("\n"), "stderr should end with a newline")
        lines = text[:-1].split("\n")
        for line in lines:
            self.check(line.startswith("nbdctl: "), f"line without 'nbdctl: ' on stderr: {line!r}")
            self.check(line.isprintable(), f"line that is not printable on stderr: {line!r}")
            self.check(len(line) < 1200, "line too long on stderr")
        return lines


HINT = "nbdctl: (hint: |try ')"


def run(argv, timeout=RUN_TIMEOUT, env=None, stdout=None, interrupt=None, rss_limit=RSS_LIMIT_KIB):
    """Runs a program to its end, which must come within timeout seconds, with all its children.

    interrupt: (wait, signal): wait() returns when the signal is to be sent. stdout: a file instead of capturing.
    """
    with tempfile.TemporaryFile(dir=_scratch) as out, tempfile.TemporaryFile(dir=_scratch) as err:
        begin = time.monotonic()
        process = _processes.start(argv, stdin=subprocess.DEVNULL, stdout=stdout or out, stderr=err,
                                   env={**os.environ, **(env or {})})
        late = threading.Event()
        timer = threading.Timer(timeout, _end_late, (process, late))
        timer.daemon = True
        timer.start()
        try:
            if interrupt:
                interrupt[0]()
                _processes.signal(process, interrupt[1])
        except BaseException:
            _processes.signal(process, signal.SIGKILL)
            raise
        finally:
            usage = _processes.wait(process)
            timer.cancel()
        seconds = time.monotonic() - begin
        out.seek(0)
        err.seek(0)
        result = Result(argv, process.returncode, out.read(), err.read(), seconds, usage.ru_maxrss)
    result.check(not late.is_set(), f"it did not end within {timeout} s")
    _check_no_survivors(process.pid)
    result.check(b"Sanitizer" not in result.err and b"runtime error:" not in result.err, "a sanitizer complained")
    result.check(_sanitized or usage.ru_maxrss <= rss_limit, f"it used {usage.ru_maxrss} KiB of memory")
    return result


def _end_late(process, late):
    late.set()
    _processes.signal(process, signal.SIGKILL)


def nbdctl(*args, **kwargs):
    return run([_nbdctl, *args], **kwargs)


def nbdctl_path():
    return _nbdctl


def is_ending():
    return _processes.ended()


# ---- addresses ----


class Address:
    """Where a server of ours listens: loopback, or a socket in our temporary folder."""

    def __init__(self, transport, port=None):
        self.transport = transport
        self.path = None
        self.port = None
        self.pid_file = None  # of a server that insists on being a daemon
        if transport == "unix":
            self.path = scratch_path("sock")
        else:
            self.host = {"tcp4": "127.0.0.1", "tcp6": "::1"}[transport]
            self.port = _free_port(self.family, self.host) if port is None else port

    @property
    def family(self):
        return {"unix": socket.AF_UNIX, "tcp4": socket.AF_INET, "tcp6": socket.AF_INET6}[self.transport]

    @property
    def endpoint(self):
        return self.path if self.transport == "unix" else (self.host, self.port)

    def uri(self, export="", scheme="nbd"):
        name = urllib.parse.quote(export, safe="")
        if self.transport == "unix":
            return f"{scheme}+unix:///{name}?socket={self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}/{name}"


_given_ports = set()


def _free_port(family, host):
    """One that nobody listens on, and that was not given to another of our servers."""
    while True:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((host, 0))
            port = probe.getsockname()[1]
        with _provision_lock:
            if port not in _given_ports:
                _given_ports.add(port)
                return port


def transports():
    """All that this machine has."""
    try:
        _free_port(socket.AF_INET6, "::1")
    except OSError:
        print("# this machine has no IPv6 loopback: IPv6 is left out")
        return ["unix", "tcp4"]
    return ["unix", "tcp4", "tcp6"]


def scratch_path(name):
    """A new path in the temporary folder, short enough for a socket."""
    return os.path.join(_scratch, f"{next(_numbers)}.{name}")


def scratch_file(name, content):
    path = scratch_path(name)
    with open(path, "wb") as file:
        file.write(content)
    return path


# ---- real servers ----


class Server:
    """A server process that accepts connections at address."""

    def __init__(self, process, address, log):
        self.process = process
        self.address = address
        self.log = log

    def uri(self, export="", scheme="nbd"):
        return self.address.uri(export, scheme)

    def words(self):
        """What it said so far."""
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return log.read()[-1000:]


@contextlib.contextmanager
def serve(argv_at, transport="unix"):
    """Runs the program argv_at(address) names for as long as the block lasts."""
    server = _start_server(argv_at, transport)
    try:
        yield server
    finally:
        _stop_server(server)


def _start_server(argv_at, transport):
    for _ in range(3):
        address = Address(transport)
        log = scratch_path("log")
        argv = argv_at(address)
        with open(log, "wb") as output:
            process = _processes.start(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        if address.pid_file:
            process = _adopt_daemon(process, address.pid_file)
        server = Server(process, address, log)
        if _is_ready(server):
            return server
        _stop_server(server)
        # Somebody may have taken the port that was free.
        if "in use" not in server.words():
            break
    raise Failure(f"the server does not start: {server.words()!r} ({argv})")


def _adopt_daemon(parent, pid_file):
    _processes.wait(parent)
    deadline = time.monotonic() + SERVER_TIMEOUT
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError), open(pid_file, encoding="ascii") as file:
            return _processes.adopt(int(file.read()))
        time.sleep(0.02)
    raise Failure("the server wrote no pid file")


def _is_ready(server):
    deadline = time.monotonic() + SERVER_TIMEOUT
    while time.monotonic() < deadline and not _has_ended(server.process):
        with socket.socket(server.address.family, socket.SOCK_STREAM) as probe:
            with contextlib.suppress(OSError):
                probe.connect(server.address.endpoint)
                return not _has_ended(server.process)
        time.sleep(0.02)
    return False


def _has_ended(process):
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _stop_server(server):
    timer = threading.Timer(5, _processes.signal, (server.process, signal.SIGKILL))
    timer.daemon = True
    timer.start()
    _processes.signal(server.process, signal.SIGTERM)
    _processes.wait(server.process)
    timer.cancel()
    _check_no_survivors(server.process.pid)


def program(name):
    """The path of a program that the tests need; one that is not there is a failure."""
    folders = [os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]
    path = shutil.which(name, path=os.pathsep.join(folders))
    check(path, f"{name} is not installed (scripts/lib/packages.sh: need_packages servers)")
    return path


_provided = {}


def provided(what):
    """What scripts/lib/packages.sh makes beside the system: need_qemu10, need_nbd_tools. Returns where it says it is."""
    with _provision_lock:
        if what not in _provided:
            script = f'. "$1" && {what} && printf "%s\\n" "$NBDCTL_CACHE"'
            done = subprocess.run(["bash", "-c", script, "bash", os.path.join(SOURCE, "scripts/lib/packages.sh")],
                                  stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
            check(done.returncode == 0, f"{what}: {done.stderr[-500:]}")
            _provided[what] = done.stdout.splitlines()[-1]
    return _provided[what]


def qemu10(name):
    return os.path.join(provided("need_qemu10"), "qemu-10", "bin", name)


def qemu_nbd(*args, transport="unix", at=None):
    """qemu-nbd of this machine, or the one at the path."""
    def argv(address):
        listen = (["-k", address.path] if address.path else ["-b", address.host, "-p", str(address.port)])
        return [at or program("qemu-nbd"), "-t", "-e", "8", *listen, *args]
    return serve(argv, transport)


def qemu_storage_daemon(*args, transport="unix", at=None):
    def argv(address):
        listen = (f"addr.type=unix,addr.path={address.path}" if address.path else
                  f"addr.type=inet,addr.host={address.host},addr.port={address.port}")
        return [at or program("qemu-storage-daemon"), "--nbd-server", listen + ",max-connections=8", *args]
    return serve(argv, transport)


def nbdkit(*args, transport="unix"):
    def argv(address):
        listen = ["-U", address.path] if address.path else ["-i", address.host, "-p", str(address.port)]
        return [program("nbdkit"), "-f", *listen, *args]
    return serve(argv, transport)


def nbd_server(config, transport="tcp4"):
    """config: the sections of the exports."""
    def argv(address):
        listen = (f"unixsock = {address.path}" if address.path else
                  f"listenaddr = {address.host}\nport = {address.port}")
        path = scratch_file("conf", f"[generic]\n{listen}\nallowlist = true\n{config}".encode())
        tools = os.path.join(provided("need_nbd_tools"), "nbd-tools", "bin")
        # It has a foreground mode, but that ends with the first client that is refused.
        address.pid_file = scratch_path("pid")
        return [os.path.join(tools, "nbd-server"), "-C", path, "-p", address.pid_file]
    return serve(argv, transport)


def qemu_img(*args, at=None):
    done = run([at or program("qemu-img"), *args], rss_limit=1 << 30)
    check(done.status == 0, str(done))


# ---- running tests ----

_tests = []


def test(function):
    """Decorator: a test, named by its function."""
    _tests.append((function.__name__.removeprefix("test_"), function))
    return function


def add_test(name, function, *args, **kwargs):
    """For tables: a test that calls the function."""
    _tests.append((name, lambda: function(*args, **kwargs)))


def _run_test(function):
    """Why it failed, or None."""
    try:
        function()
    except Failure as failure:
        return str(failure)
    except Exception:  # a test that breaks has failed, and the others go on
        return traceback.format_exc()
    return None


def _report(number, name, why):
    if why is None:
        print(f"ok {number} - {name}", flush=True)
        return
    first, *rest = why.strip().split("\n")
    # '#' would begin a directive of TAP.
    print(f"not ok {number} - {name}: {first}".replace("#", "\\#"), flush=True)
    for line in rest:
        print(f"# {line}", flush=True)


def _run_tests(tests, jobs):
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        try:
            names = {pool.submit(_run_test, function): name for name, function in tests}
            done = concurrent.futures.as_completed(names)
            for number, future in enumerate(done, 1):
                why = future.result()
                failed += why is not None
                _report(number, names[future], why)
        except BaseException:
            _processes.end_all()
            pool.shutdown(cancel_futures=True)
            raise
    print(f"# {len(tests) - failed} passed, {failed} failed", flush=True)
    return failed


def _parse_arguments():
    parser = argparse.ArgumentParser(description="Runs the tests of this file and prints TAP.")
    parser.add_argument("--nbdctl", default=os.environ.get("NBDCTL"), help="the program (default: $NBDCTL)")
    parser.add_argument("--jobs", type=int, default=8, help="how many tests run at once")
    parser.add_argument("--list", action="store_true", help="only print the names")
    parser.add_argument("pattern", nargs="*", help="only tests whose names match one of these regular expressions")
    options = parser.parse_args()
    if not options.list and not (options.nbdctl and os.access(options.nbdctl, os.X_OK)):
        parser.error("NBDCTL or --nbdctl must name the nbdctl program")
    return options


def _is_sanitized(path):
    with open(path, "rb") as file:
        return b"__asan_init" in file.read()


def _interrupted(number, _frame):
    raise KeyboardInterrupt(number)


def main():
    """Runs what was registered; ends the process."""
    global _nbdctl, _sanitized, _scratch  # pylint: disable=global-statement
    options = _parse_arguments()
    tests = [(name, function) for name, function in _tests
             if not options.pattern or any(re.search(pattern, name) for pattern in options.pattern)]
    if options.list:
        print("\n".join(name for name, _ in tests))
        sys.exit(0)
    _nbdctl = os.path.abspath(options.nbdctl)
    _sanitized = _is_sanitized(_nbdctl)
    signal.signal(signal.SIGTERM, _interrupted)
    # What the tests compare must not depend on the language of whoever runs them.
    os.environ["LC_ALL"] = "C.UTF-8"
    _become_subreaper()
    _scratch = tempfile.mkdtemp(prefix="nbdctl-interop-")
    try:
        print(f"1..{len(tests)}", flush=True)
        failed = _run_tests(tests, options.jobs)
    except KeyboardInterrupt:
        print("Bail out! interrupted", flush=True)
        failed = True
    finally:
        _processes.end_all()
        shutil.rmtree(_scratch, ignore_errors=True)
    sys.exit(1 if failed or not tests else 0)
