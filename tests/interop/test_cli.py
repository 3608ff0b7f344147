# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command line itself: help, usage errors, what is refused before anything is tried, and how a run can end."""

import contextlib
import json
import os
import re
import signal
import socket
import sys
import time

import fake_server as nbd
from fake_server import FakeServer, Script
from harness import (Address, add_test, check, check_equal, main, nbdctl, nbdctl_path, program, run, scratch_file,
                     scratch_path, test)

URI = "nbd://127.0.0.1:1/"  # never connected to: these are refused before


# ---- help and version ----


def commands():
    """Those that --help lists."""
    text = nbdctl("--help").worked()
    names = re.findall(r"^  (\S+)  +\S", text.split("Commands:\n")[1], re.MULTILINE)
    check({"attach", "detach", "list", "status", "watch", "info"} <= set(names), f"commands: {names}")
    return names


def check_help(text):
    check(text.startswith("Usage: nbdctl "), f"usage: {text!r}")
    check(all(len(line) <= 100 and line.isprintable() for line in text.splitlines()), f"lines of text: {text!r}")


@test
def test_help_of_every_command():
    for command in commands():
        for args in ([command, "--help"], [command, "-h"], [command, "argument", "--help"], ["--quiet", command, "--help"]):
            text = nbdctl(*args).worked()
            check_help(text)
            check(text.startswith(f"Usage: nbdctl {command} "), f"usage of {command}: {text!r}")
            check("--help" in text and "Exit status" in text, f"help of {command}: {text!r}")


@test
def test_help():
    for args in (["--help"], ["-h"], ["--verbose", "--help"]):
        text = nbdctl(*args).worked()
        check_help(text)
        check(all(re.search(rf"^  {command} ", text, re.MULTILINE) for command in commands()), f"commands in {text!r}")


@test
def test_version():
    for args in (["--version"], ["-V"]):
        check(re.fullmatch(r"nbdctl \d+\.\d+\.\d+\S*\n", nbdctl(*args).worked()), "version")


@test
def test_no_command():
    result = nbdctl()
    check_equal((result.status, result.out), (2, b""), "status and stdout")
    check(result.err.startswith(b"Usage: nbdctl "), f"usage on stderr ({result})")


# ---- wrong usage ----

USAGE_ERRORS = {
    "unknown command": (["frobnicate"], "'frobnicate' is not a command"),
    "empty command": ([""], "'' is not a command"),
    "command in capitals": (["INFO", URI], "'INFO' is not a command"),
    "beginning of a command": (["inf", URI], "'inf' is not a command"),
    "unknown global option": (["--frobnicate"], "'--frobnicate' is unknown"),
    "unknown option": (["info", "--frobnicate", URI], "info: .*'--frobnicate'"),
    "unknown option behind the argument": (["info", URI, "--frobnicate"], "info: .*'--frobnicate'"),
    "unknown letter": (["info", "-Z", URI], "info: .*-Z"),
    "unknown letter among others": (["info", URI, "-jZL"], "info: .*-jZL|info: .*-Z"),
    "option of another command": (["info", "--connections", "2", URI], "info: .*'--connections'"),
    "option without its argument": (["info", URI, "--connect-timeout"], "'--connect-timeout' needs an argument"),
    "option with an argument that takes none": (["info", "--json=yes", URI], "--json"),
    "missing URI": (["info"], "info: URI is missing"),
    "missing URI behind options": (["info", "--json", "--list"], "info: URI is missing"),
    "queries without a URI": (["info", "--list-contexts", "qemu:"], "info: URI is missing"),
    "two URIs": (["info", URI, "nbd://other"], "argument 'nbd://other' is one too many"),
    "more than a URI": (["info", URI, "more"], "'more' is one too many"),
    "list and list-contexts": (["info", "--list", "--list-contexts", URI], "--list and --list-contexts"),
    "content and no-content": (["info", "--content", "--no-content", URI], "--content and --no-content"),
    "65 queries": (["info", "--list-contexts", URI, *(["qemu:"] * 65)], "more than 64 queries"),
    "attach nothing": (["attach"], "attach: .* is missing"),
    "detach nothing": (["detach"], "detach: .*--all"),
    "detach all and one": (["detach", "--all", "nbd0"], "detach: .*--all"),
    "status of two": (["status", "nbd0", "nbd1"], "argument 'nbd1' is one too many"),
    "watch nothing": (["watch"], "watch: DEVICE is missing"),
    "watch two": (["watch", "nbd0", "nbd1"], "argument 'nbd1' is one too many"),
    "watch what is no device": (["watch", "sda"], "sda"),
    "list with an argument": (["list", "nbd0"], "argument 'nbd0' is one too many"),
}
BAD_TIMES = ["", "x", "-1", "1x", "1m", "s", "1 s", " 1", "1.", ".5", "1e3", "0x10", "99999999999999999999", "99999999999h"]
NO_TIMES = ["0", "0s", "0.0", "0ms"]
BAD_SIZES = ["", "x", "-1", "4Q", "K", "1.5K", "0", "511", "513", "3000", "128K", "99999999999999999999", "0x1000"]
for option in ("--connect-timeout", "--io-timeout"):
    for value in BAD_TIMES + NO_TIMES:
        USAGE_ERRORS[f"info {option} '{value}'"] = (["info", f"{option}={value}", URI], f"info: {option} .*time")
for option in ("--timeout", "--dead-timeout", "--wait"):
    for value in BAD_TIMES:
        USAGE_ERRORS[f"attach {option} '{value}'"] = (["attach", f"{option}={value}", URI], f"attach: {option} .*(time|long)")
for value in BAD_TIMES:
    USAGE_ERRORS[f"detach --timeout '{value}'"] = (["detach", f"--timeout={value}", "nbd0"], "detach: --timeout .*time")
for value in BAD_SIZES:
    USAGE_ERRORS[f"attach --block-size '{value}'"] = (["attach", "--block-size", value, URI], "attach: --block-size ")
for value in ("", "0", "-1", "17", "x", "AUTO", "1.5", "4294967297"):
    USAGE_ERRORS[f"attach --connections '{value}'"] = (["attach", "--connections", value, URI], "attach: --connections ")
for value in ("", "a/b", "a b", "x" * 300, "\x1b"):
    USAGE_ERRORS[f"attach --name {value[:20]!r}"] = (["attach", "--name", value, URI], "attach: --name ")
for value in ("", "maybe", "YES", "1"):
    USAGE_ERRORS[f"info --tls-verify-peer '{value}'"] = (["info", "--tls-verify-peer", value, "nbds://h/"],
                                                          "info: --tls-verify-peer is yes or no")


def is_usage_error(args, match):
    nbdctl(*args).failed(match, status=2)


for kind, arguments in USAGE_ERRORS.items():
    add_test(f"usage: {kind}", is_usage_error, *arguments)


# ---- URIs ----

BAD_URIS = {
    "": "scheme",
    "disk": "scheme",
    "/dev/sda": "scheme",
    "nbd:host": "scheme",
    "http://h/": 'unknown scheme "http"',
    "nbdx://h/": 'unknown scheme "nbdx"',
    "nbd+tcp://h/": 'unknown scheme "nbd\\+tcp"',
    "nbd://h/a b": "space at character 10",
    "nbd://h/a\x1b[31m": "control character at character 10",
    "nbd://h/\u00e4": "outside ASCII at character 9",
    "nbd://h/a%zz": "percent encoding in the export name, at character 10",
    "nbd://h/a%2": "percent encoding in the export name",
    "nbd://h/%ff": "export name is not valid UTF-8",
    "nbd://h/a%00b": "export name contains a NUL",
    "nbd://h/" + "x" * 4097: "export name is longer than 4096",
    "nbd://h/#part": "fragment",
    "nbd://h:0/": "port 0",
    "nbd://h:65536/": "port 65536",
    "nbd://h:http/": "port is not a number",
    "nbd://h:-1/": "port is not a number",
    "nbd://h:1:2/": "more than one ':'",
    "nbd://::1/": "more than one ':'",
    "nbd://[::1/": "never closed",
    "nbd://[zz]/": '"zz" is not an IPv6 address',
    "nbd://[::1]x/": "only ':' and a port",
    "nbd://h!/": '"h!" is not a host name',
    "nbd://user@h/": "user name",
    "nbds://user:secret@h/": "password",
    "nbds://a@b@h/": "more than one '@'",
    "nbds://@h/": "user name is empty",
    "nbd://h/?socket=/x": "takes no socket",
    "nbd+unix:///disk": "needs a socket",
    "nbd+unix://h/disk?socket=/x": "takes no host",
    "nbd+unix:///?socket=": "socket is empty",
    "nbd+unix:///?socket=/a&socket=/b": "socket is given more than once",
    "nbd+unix:///?socket=/" + "x" * 108: "socket is longer than 107",
    "nbd+vsock://host/": "vsock CID",
    "nbd+vsock://2:99999999999/": "port 99999999999",
    "nbd://h/?colour=red": 'unknown parameter "colour"',
    "nbd://h/?Socket=/x": 'unknown parameter "Socket"',
    "nbd://h/?tls-psk-file=/x": "tls-psk-file conflicts with nbd://",
    "nbd://h/?tls-certificates=/x": "tls-certificates conflicts with nbd://",
    "nbds://h/?tls-type=ssl": "tls-type=ssl",
    "nbds://h/?tls-verify-peer=maybe": "tls-verify-peer=maybe",
    "nbds://h/?tls-psk-file=/a&tls-certificates=/b": "tls-psk-file conflicts with tls-certificates",
    "nbds://h/?tls-type=x509&tls-psk-file=/a": "tls-type=x509 conflicts with tls-psk-file",
    "nbds://h/?tls-psk-file=": "tls-psk-file is empty",
}


def uri_is_refused(uri, match):
    for command in ("info", "attach"):
        result = nbdctl(command, uri)
        result.failed(match, status=2)
        check("secret" not in result.err.decode(), f"no secret is shown ({result})")


for bad_uri, pattern in BAD_URIS.items():
    add_test(f"URI: {bad_uri.encode('unicode_escape').decode()[:60]!r}", uri_is_refused, bad_uri, pattern)


@test
def test_tls_options_of_a_uri_without_tls():
    for option in ("--tls-psk-file", "--tls-certificates", "--tls-hostname", "--tls-username", "--tls-priority"):
        nbdctl("info", option, "x", URI).failed(f"{option}.*never encrypts", status=2)
    nbdctl("info", "--tls-verify-peer=yes", URI).failed("--tls-verify-peer.*never encrypts", status=2)


# ---- what is accepted ----


@test
def test_options_may_stand_anywhere():
    with FakeServer(Script()) as server:
        uri = server.uri()
        expected = nbdctl("info", "--json", "--no-content", uri).worked()
        for args in (["info", uri, "--json", "--no-content"], ["info", "--json", uri, "--no-content"],
                     ["info", "-j", "--no-content", "--", uri], ["-v", "info", "-j", "--no-content", uri],
                     ["-q", "info", uri, "--json", "--no-content"], ["info", "-qj", uri, "--no-content"],
                     ["--verbose", "--quiet", "info", "--no-cont", "--js", uri]):
            check_equal(nbdctl(*args).out.decode(), expected, f"answer to {args}")


@test
def test_times():
    with FakeServer(Script()) as server:
        for value in ("1", "5s", "500ms", "0.5", "1.5s", "1min", "2h", "0.25h", "00010", "1000000h"):
            nbdctl("info", "--connect-timeout", value, "--io-timeout", value, "--no-content", server.uri()).worked()


@test
def test_last_option_wins():
    with FakeServer(Script(info=lambda peer, _: peer.wait_until_gone())) as server:
        result = nbdctl("info", "--io-timeout=60", "--io-timeout=300ms", server.uri())
        result.failed("did not answer in time")
        result.check(result.seconds < 10, "the last time given should hold")


@test
def test_quiet_and_verbose():
    with FakeServer(Script(info=lambda peer, _: peer.refuse(nbd.INFO, "UNKNOWN"))) as server:
        for args in (["-q", "info"], ["--quiet", "info"], ["info", "-q"], ["info", "--quiet"]):
            nbdctl(*args, server.uri()).failed("no such export", hint=False)
        for args in (["info"], ["-v", "info"], ["info", "--verbose"]):
            result = nbdctl(*args, server.uri())
            result.check(b"no such export" in result.err and b"nbdctl: hint: " in result.err, "error and hint")
    nbdctl("-q", "info", "--frobnicate").failed("--frobnicate", status=2)


# ---- nobody there ----


@test
def test_refused_port():
    for transport in ("tcp4", "unix"):
        address = Address(transport)
        if transport == "unix":
            with socket.socket(socket.AF_UNIX) as bound:
                bound.bind(address.path)
        result = nbdctl("info", address.uri())
        result.failed("cannot connect to .*: Connection refused", hint="is an NBD server listening there")
        result.check(result.seconds < 5, "it should fail at once")


@test
def test_no_such_socket():
    nbdctl("info", Address("unix").uri()).failed("cannot connect to socket .*: No such file", hint="is the server running")
    nbdctl("info", "nbd+unix:///?socket=%00nbdctl-interop-nobody").failed("cannot connect to socket @nbdctl.*refused")
    nbdctl("info", f"nbd+unix:///?socket={scratch_file('file', b'')}").failed("Connection refused")


@test
def test_unreachable_address():
    """The kernel refuses to connect to a multicast address, without a packet."""
    nbdctl("info", "nbd://224.0.0.1/").failed("cannot connect to 224.0.0.1 port 10809: Network is unreachable", hint="route")


@test
def test_unknown_zone():
    nbdctl("info", "nbd://[fe80::1%25nosuch0]/").failed("cannot connect to fe80::1%nosuch0 port 10809")


@contextlib.contextmanager
def full_backlog(transport):
    """An address at which connecting hangs: nobody accepts, and those who wait already fill the queue."""
    address = Address(transport, port=0)
    with contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket(address.family))
        listener.bind(address.endpoint)
        listener.listen(0)
        if transport != "unix":
            address.port = listener.getsockname()[1]
        for _ in range(64):
            waiting = sockets.enter_context(socket.socket(address.family))
            waiting.settimeout(0.2)
            try:
                waiting.connect(address.endpoint)
            except (BlockingIOError, TimeoutError):
                break
        yield address


def hanging_connect(transport):
    with full_backlog(transport) as address:
        result = nbdctl("info", "--connect-timeout", "600ms", address.uri())
        result.failed(r"cannot connect to .* within 0\.[67] s", hint=True)
        result.check(0.5 < result.seconds < 5, "the time should be kept")


def interrupted_connect(transport, number):
    with full_backlog(transport) as address:
        result = nbdctl("info", "--connect-timeout", "30", address.uri(), interrupt=(lambda: time.sleep(0.5), number))
        is_interrupted(result, number)


def is_interrupted(result, number):
    """Died by the signal, soon, having said so."""
    result.check(result.status == -number, f"it should die by signal {number}")
    result.check(result.seconds < 5, "it should end at once")
    result.check(result.out == b"", "there should be nothing on stdout")
    result.remarked("interrupted", hint=False)


for transport_name in ("tcp4", "unix"):
    add_test(f"hanging connect: {transport_name}", hanging_connect, transport_name)
    for signal_name in ("SIGINT", "SIGTERM", "SIGHUP"):
        add_test(f"{signal_name} while connecting: {transport_name}", interrupted_connect, transport_name,
                 getattr(signal, signal_name))


# ---- names ----


def lonely(name_server, *args, **kwargs):
    """nbdctl info where only the loopback is there, and a name server of ours."""
    # Who is not root can have namespaces of their own only together with a user namespace.
    more = [] if os.geteuid() == 0 else ["--map-root-user"]
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "lonely.py")
    return run([program("unshare"), "--net", "--mount", *more, sys.executable, script, name_server, nbdctl_path(), "info",
                *args], **kwargs)


@test
def test_unknown_name():
    result = lonely("unknown", "nbd://no-such-host.example/")
    result.failed("cannot connect to no-such-host.example port 10809: .*not known", hint="check the name")
    result.check(result.seconds < 10, "it should fail at once")


@test
def test_silent_name_server():
    result = lonely("silent", "--connect-timeout", "600ms", "nbd://no-such-host.example/")
    result.failed(r"cannot connect to no-such-host.example port 10809 within 0\.[67] s: no answer to the name lookup")
    result.check(result.seconds < 5, "the time should be kept")


@test
def test_interrupted_name_lookup():
    result = lonely("silent", "--connect-timeout", "30", "nbd://no-such-host.example/",
                    interrupt=(lambda: time.sleep(1.5), signal.SIGINT))
    result.check(result.status == -signal.SIGINT, "it should die by the signal")
    result.remarked("interrupted")


@test
def test_no_route():
    lonely("unknown", "nbd://192.0.2.1/").failed("cannot connect to 192.0.2.1 port 10809: Network is unreachable",
                                                 hint="route")


# ---- closed and full outputs ----


def redirected(redirection, *args):
    return run(["/bin/sh", "-c", f'exec "$@" {redirection}', "sh", nbdctl_path(), *args])


WRITERS = {"help": ["--help"], "version": ["--version"], "help of info": ["info", "--help"],
           "help of attach": ["attach", "--help"]}


def unwritable(redirection, match, args):
    result = redirected(redirection, *args)
    result.failed(f"cannot write to standard output: {match}")


OUTPUTS = {"full": (">/dev/full", "No space left"), "closed": (">&-", "Bad file descriptor")}
for output, (shell, reason) in OUTPUTS.items():
    for what, arguments in WRITERS.items():
        add_test(f"{output} stdout: {what}", unwritable, shell, reason, arguments)


def unwritable_answer(redirection, match, args):
    """The server must not get what nobody else takes: a descriptor that is missing is not one to be reused."""
    with FakeServer(Script()) as server:
        unwritable(redirection, match, ["info", *args, server.uri()])
        check_equal(server.lefts(), ["abort" if "--list" in args else "disc"], "how the client left")


for output, (shell, reason) in OUTPUTS.items():
    for arguments in ([], ["--json"], ["--list", "--json"]):
        add_test(f"{output} stdout: info {' '.join(arguments)}", unwritable_answer, shell, reason, arguments)


@test
def test_everything_closed():
    """No message may go where a missing descriptor was."""
    with FakeServer(Script(info=lambda peer, _: peer.refuse(nbd.INFO, "POLICY", b"no"))) as server:
        for redirection in ("2>&-", "<&- >&- 2>&-", "<&-", ">&- 2>&-"):
            result = redirected(redirection, "info", server.uri())
            check_equal((result.status, result.out), (1, b""), f"status and stdout with {redirection}")
        check_equal(server.lefts(4), ["abort"] * 4, "how the client left")


@test
def test_reader_that_went_away():
    """SIGPIPE is no way to end: the error is told like any other."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    with FakeServer(Script()) as server, open(write_end, "wb") as broken:
        result = nbdctl("info", server.uri(), stdout=broken)
        result.failed("cannot write to standard output: Broken pipe")


@test
def test_answer_through_a_pipe():
    """What a script reads: whole, once."""
    with FakeServer(Script()) as server:
        path = scratch_path("answer")
        with open(path, "wb") as file:
            nbdctl("info", "--json", server.uri(), stdout=file).worked()
        with open(path, "rb") as file:
            check_equal(len(json.load(file)["exports"]), 1, "exports")


# ---- ending by a signal ----


def arrived(server):
    server.connected.wait(10)
    time.sleep(0.3)


@test
def test_interrupted_while_the_server_is_deaf():
    """One that reads nothing cannot make the farewell long."""
    def deaf(peer, _data):
        time.sleep(3)
        peer.wait_until_gone()
    with FakeServer(Script(info=deaf)) as server:
        result = nbdctl("info", server.uri(), interrupt=(lambda: arrived(server), signal.SIGINT))
        is_interrupted(result, signal.SIGINT)


@test
def test_ignored_interrupt_stays_ignored():
    """As in the background of a shell, or under nohup."""
    with FakeServer(Script(info=lambda peer, data: (time.sleep(1), nbd.info(peer, data)))) as server:
        result = run(["/bin/sh", "-c", 'trap "" INT HUP; exec "$@"', "sh", nbdctl_path(), "info", server.uri()],
                     interrupt=(lambda: arrived(server), signal.SIGINT))
        check(b"export-size" in result.worked().encode(), "answer")


# ---- libraries that are loaded when they are needed ----


def with_broken(library):
    """As on a machine that lacks it: the loader finds this one first."""
    folder = scratch_path("broken-" + library)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, library), "w", encoding="ascii") as file:
        file.write("no library")
    return {"LD_LIBRARY_PATH": folder}


def is_linked_with(library):
    return library.encode() in run(["ldd", nbdctl_path()]).out


@test
def test_tls_without_gnutls():
    """Encrypted disks say what to install; others do not need it."""
    check(not is_linked_with("libgnutls"), "linked with GnuTLS")
    env = with_broken("libgnutls.so.30")
    nbdctl("info", "nbds://127.0.0.1:1/", env=env).failed("TLS needs GnuTLS", hint="install GnuTLS")
    nbdctl("info", "nbd://127.0.0.1:1/", env=env).failed("Connection refused", hint="is an NBD server listening")


@test
def test_modules_without_libkmod():
    check(not is_linked_with("libkmod"), "linked with libkmod")
    nbdctl("list", env=with_broken("libkmod.so.2")).worked()


if __name__ == "__main__":
    main()
