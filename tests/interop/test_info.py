# SPDX-License-Identifier: LGPL-2.1-or-later
"""nbdctl info beside nbdinfo, against real servers: the same keys in the same order, types and values, and the same text."""

import difflib
import gzip
import json
import os
import random
import socket
import struct

from harness import (add_test, check, check_equal, main, nbd_server, nbdctl, nbdkit, program, provided, qemu10, qemu_img,
                     qemu_nbd, qemu_storage_daemon, run, scratch_file, scratch_path, test, transports)

# What only we know of; nbdinfo 1.14 negotiates no extended headers.
OURS_ALONE = {"extended"}

NAMES = ["disk", "with space", "a/b", "naïve", "日本", "100%", "x" * 200, "?&=#;@:", "'\"\\"]


def parse(text):
    """JSON with the order of the keys kept."""
    return json.loads(text, object_pairs_hook=lambda pairs: [pair for pair in pairs if pair[0] not in OURS_ALONE])


def explain(theirs, ours):
    lines = difflib.unified_diff(theirs.splitlines(), ours.splitlines(), "nbdinfo", "nbdctl", lineterm="", n=1)
    return "\n".join(lines)


def typed(value):
    """1 and true are equal in Python."""
    if isinstance(value, (list, tuple)):
        return [typed(element) for element in value]
    return (type(value).__name__, value)


def nbdinfo(*args):
    return run([program("nbdinfo"), *args], rss_limit=1 << 30)


def both_answers(uri, *args):
    """Theirs and ours, as text. A ':' in a path needs no encoding, but nbdinfo's gets it."""
    theirs = nbdinfo(*args, uri)
    ours = nbdctl("info", *args, uri)
    check_equal(theirs.status, 0, f"status of nbdinfo ({theirs})")
    return theirs.out.decode().replace("%3A", ":"), ours.worked()


def same_json(uri, *args):
    theirs, ours = (parse(text) for text in both_answers(uri, "--json", *args))
    check(typed(ours) == typed(theirs), "JSON differs:\n" + explain(json.dumps(theirs, indent=1), json.dumps(ours, indent=1)))


def same_text(uri, *args):
    """But for the name of the packets that only we negotiate."""
    theirs, ours = both_answers(uri, *args)
    ours = ours.replace("using extended packets", "using structured packets")
    check(ours == theirs, "text differs:\n" + explain(theirs, ours))


ALL_QUESTIONS = ([], ["--no-content"], ["--list"], ["--list", "--content"])


def same_answers(uri, questions=ALL_QUESTIONS):
    for args in questions:
        same_json(uri, *args)
        same_text(uri, *args)


def one_export(uri, *args):
    """What we print of it as a dictionary."""
    answer = json.loads(nbdctl("info", "--json", *args, uri).worked())
    check_equal(len(answer["exports"]), 1, "exports")
    return answer["exports"][0]


# ---- disks to serve ----


def random_bytes(size):
    return random.Random(size).randbytes(size)


def boot_sector():
    partition = struct.pack("<B3sB3sII", 0x80, b"\0\2\0", 0x83, b"\0\0\0", 2048, 65536)
    return bytes(446) + partition + bytes(48) + b"\x55\xaa"


CONTENTS = {
    "nothing": b"",
    "zeroes": bytes(1 << 20),
    "one byte": b"x",
    "text": b"hello\n" * 2000,
    "an odd number of bytes": random_bytes(12345),
    "less than a block": b"#!/bin/sh\nexit 1\n",
    "a partition table": boot_sector().ljust(1 << 20, b"\0"),
    "a compressed file": gzip.compress(random_bytes(100000), mtime=0),
    "noise": random_bytes(65536),
    "what begins like a picture": b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", 640, 480, 8, 2, 0, 0, 0),
}


def is_content_guessed(content):
    with nbdkit("file", scratch_file("disk", content)) as server:
        same_answers(server.uri(), ([],))


def is_content_guessed_of_blocks(content):
    with nbdkit("--filter=blocksize-policy", "file", scratch_file("disk", content.ljust(4096, b"\0")),
                "blocksize-minimum=512", "blocksize-preferred=4096", "blocksize-maximum=1M") as server:
        same_answers(server.uri(), ([],))


for content_name, disk_content in CONTENTS.items():
    add_test(f"content: {content_name}", is_content_guessed, disk_content)
    if len(disk_content) % 512 == 0:
        add_test(f"content: {content_name}, in blocks", is_content_guessed_of_blocks, disk_content)


def qcow2(*bitmaps, size="64M", at=None):
    path = scratch_path("qcow2")
    qemu_img("create", "-q", "-f", "qcow2", path, size, at=at)
    for bitmap in bitmaps:
        qemu_img("bitmap", "--add", path, bitmap, at=at)
    return path


# ---- qemu ----

QEMUS = {"7": lambda name: None, "10": qemu10}


def check_replies(version, uri):
    answer = json.loads(nbdctl("info", "--json", uri).worked())
    check_equal((answer["structured"], answer.get("extended", False)), (True, version == "10"), "replies")


def qemu_bitmaps(version):
    at = QEMUS[version]("qemu-nbd")
    with qemu_nbd("-f", "qcow2", "-A", "-B", "b0", "-x", "disk0", "-D", "a description", qcow2("b0", "other"),
                  at=at) as server:
        uri = server.uri("disk0")
        same_answers(uri)
        check_replies(version, uri)
        check_equal(one_export(uri)["contexts"], ["base:allocation", "qemu:allocation-depth", "qemu:dirty-bitmap:b0"],
                    "contexts")


def qemu_read_only(version):
    with qemu_nbd("-f", "raw", "-r", scratch_file("disk", random_bytes(1 << 20)), at=QEMUS[version]("qemu-nbd")) as server:
        same_answers(server.uri())
        check(one_export(server.uri())["is_read_only"] is True, "read-only")


def qemu_transport(version, transport):
    with qemu_nbd("-f", "qcow2", "-x", "disk", qcow2(), transport=transport, at=QEMUS[version]("qemu-nbd")) as server:
        same_answers(server.uri("disk"))
        check_replies(version, server.uri("disk"))


def exports_of(disks):
    """Arguments for qemu-storage-daemon: a name, and the bitmaps it exports, each from a qcow2 of its own."""
    arguments = []
    for number, (name, bitmaps) in enumerate(disks):
        blockdev = {"driver": "qcow2", "node-name": f"n{number}",
                    "file": {"driver": "file", "filename": qcow2(*bitmaps, size="1M")}}
        export = {"type": "nbd", "id": f"e{number}", "node-name": f"n{number}", "name": name, "bitmaps": list(bitmaps),
                  "writable": bool(bitmaps) or number % 2 == 0,
                  "allocation-depth": number % 3 == 0, "description": "" if number % 2 else f"№ {number}"}
        arguments += ["--blockdev", json.dumps(blockdev), "--export", json.dumps(export)]
    return arguments


def qemu_many_exports(version):
    disks = [(name, ["b0", "b1"][:number % 3]) for number, name in enumerate(NAMES)]
    with qemu_storage_daemon(*exports_of(disks), at=QEMUS[version]("qemu-storage-daemon")) as server:
        same_answers(server.uri("disk"), (["--list"], ["--list", "--content"]))
        for name in NAMES:
            same_json(server.uri(name))


def qemu_slow_second_client(version):
    """qemu-nbd takes one client at a time by default: asking for each export's content must not wait for ourselves."""
    with qemu_nbd("-e", "1", "-f", "raw", scratch_file("disk", bytes(1 << 20)), at=QEMUS[version]("qemu-nbd")) as server:
        check("content" in one_export(server.uri(), "--list", "--content"), "content")


def queries(version, query, expected):
    """expected: of the contexts of the export."""
    with qemu_nbd("-f", "qcow2", "-A", "-B", "b0", "-B", "b:1", qcow2("b0", "b:1"), at=QEMUS[version]("qemu-nbd")) as server:
        uri = server.uri()
        for args in (["--list-contexts", *query, uri], ["--list-contexts", uri, *query], [uri, *query, "--list-contexts"],
                     ["--list-contexts", *(f"--list-contexts={word}" for word in query), uri]):
            found = nbdctl("info", *args).worked().splitlines()
            check_equal(sorted(found), expected, "contexts")
            check_equal(json.loads(nbdctl("info", "--json", *args).worked()), {"export-name": "", "contexts": found},
                        "contexts as JSON")


ALLOCATION, DEPTH, BITMAPS = "base:allocation", "qemu:allocation-depth", ["qemu:dirty-bitmap:b0", "qemu:dirty-bitmap:b:1"]
QUERIES = {
    (): [ALLOCATION, DEPTH, *BITMAPS],
    ("base:",): [ALLOCATION],
    ("base:allocation",): [ALLOCATION],
    ("base:other",): [],
    ("qemu:",): [DEPTH, *BITMAPS],
    ("qemu:dirty-bitmap:",): BITMAPS,
    ("qemu:dirty-bitmap:b0",): BITMAPS[:1],
    ("qemu:dirty-bitmap:b:1",): BITMAPS[1:],
    ("qemu:dirty-bitmap:none",): [],
    ("qemu:allocation-depth",): [DEPTH],
    ("x-other:",): [],
    ("base:", "qemu:dirty-bitmap:b0"): [ALLOCATION, BITMAPS[0]],
}  # in alphabetical order: qemu has none

for qemu in QEMUS:
    add_test(f"qemu {qemu}: bitmaps, allocation depth, description", qemu_bitmaps, qemu)
    add_test(f"qemu {qemu}: read-only", qemu_read_only, qemu)
    add_test(f"qemu {qemu}: many exports", qemu_many_exports, qemu)
    add_test(f"qemu {qemu}: one client at a time", qemu_slow_second_client, qemu)
    for transport_name in transports():
        add_test(f"qemu {qemu}: {transport_name}", qemu_transport, qemu, transport_name)
    for words, answers in QUERIES.items():
        add_test(f"qemu {qemu}: contexts {' '.join(words)}", queries, qemu, words, answers)


@test
def test_no_such_export():
    with qemu_nbd("-f", "raw", "-x", "disk", scratch_file("disk", bytes(4096))) as server:
        nbdctl("info", server.uri("other")).failed('export "other": the server has no such export.*NBD_REP_ERR_UNKNOWN',
                                                   hint="nbdctl info --list")
        nbdctl("info", server.uri()).failed("the default export: the server has no such export", hint="--list")
        nbdctl("info", "--list-contexts", server.uri("other")).failed('export "other"')
        nbdctl("info", "--quiet", server.uri("other")).failed("no such export", hint=False)


@test
def test_second_client_of_a_server_that_takes_one():
    """It hangs in the backlog; the error says what that may be."""
    disk = scratch_file("disk", bytes(4096))
    with qemu_nbd("-e", "1", "-f", "raw", disk) as server, socket.socket(socket.AF_UNIX) as first:
        first.connect(server.address.path)
        check(first.recv(18), "the first client is served")
        result = nbdctl("info", "--connect-timeout", "600ms", server.uri())
        result.failed("did not answer in time|cannot connect to .* within")
        result.check(result.seconds < 10, "it should end soon")


# ---- nbdkit ----

# Lists are refused by these.
LISTLESS_NBDKITS = {
    "not fixed newstyle": (["--mask-handshake=0", "memory", "1M"], "too old"),
    "newstyle without zeroes": (["--mask-handshake=2", "memory", "1M"], "too old"),
    "list refused": (["--filter=exportname", "memory", "1M", "exportname-list=error"], "cannot list exports"),
}
NBDKITS = {
    "memory": ["memory", "1G"],
    "memory, odd size": ["memory", "1000001"],
    "memory, empty": ["memory", "0"],
    "null, as large as can be": ["null", str((1 << 63) - 1)],
    "zero": ["zero"],
    "read-only": ["-r", "memory", "1M"],
    "full": ["full", "1M"],
    "pattern": ["pattern", "16M"],
    "sparse random": ["sparse-random", "64M", "seed=1"],
    "data": ["data", "0x55 0xAA*100", "size=1M"],
    "no structured replies": ["--no-sr", "memory", "1M"],
    "zeroes": ["--mask-handshake=1", "memory", "1M"],
    "no multi-conn": ["--filter=multi-conn", "memory", "1M", "multi-conn-mode=disable"],
    "no zero": ["--filter=nozero", "memory", "1M"],
    "no fua": ["--filter=fua", "memory", "1M", "fuamode=emulate"],
    "no cache": ["--filter=nocache", "memory", "1M", "cachemode=none"],
    "emulated cache": ["--filter=cache", "memory", "1M"],
    "no extents": ["--filter=noextents", "memory", "1M"],
    "truncated": ["--filter=truncate", "memory", "1000", "round-up=4096"],
    "no maximum": ["--filter=blocksize-policy", "memory", "1M", "blocksize-minimum=512", "blocksize-preferred=4096",
                    "blocksize-maximum=4294967295"],
    "tiny maximum": ["--filter=blocksize-policy", "memory", "1M", "blocksize-preferred=512", "blocksize-maximum=8192"],
    "default export": ["--filter=exportname", "memory", "1M", "default-export=hello", "exportname-list=keep"],
    "fixed list": ["--filter=exportname", "memory", "1M", "exportname=one", "exportname=two", "exportname=naïve",
                    "exportdesc=fixed:the same for all", "exportname-list=explicit"],
    "default only": ["--filter=exportname", "memory", "1M", "default-export=hello", "exportname-list=defaultonly"],
    "empty list": ["--filter=exportname", "memory", "1M", "exportname-list=empty"],
}
# What nbdinfo would read of these is less than a block, or more than they give at once.
STRICT_NBDKITS = {
    "large blocks": ["--filter=blocksize-policy", "memory", "1M", "blocksize-minimum=64K", "blocksize-preferred=64K",
                     "blocksize-maximum=32M"],
    "large blocks, enforced": ["--filter=blocksize-policy", "memory", "1M", "blocksize-minimum=64K",
                               "blocksize-preferred=64K", "blocksize-maximum=32M", "blocksize-error-policy=error"],
    "small maximum, enforced": ["--filter=blocksize-policy", "memory", "1M", "blocksize-preferred=512",
                                "blocksize-maximum=1024", "blocksize-error-policy=error"],
}

PLUGIN = """
get_size) echo 1M ;;
list_exports) echo NAMES+DESCRIPTIONS; printf 'one\\nthe first\\ntwo\\nthe second\\n' ;;
export_description) echo "described: $2" ;;
can_fua|can_cache) echo native ;;
is_rotational|can_write|can_flush|can_trim|can_zero|can_fast_zero|can_multi_conn) exit 0 ;;
block_size) echo 512 4096 65536 ;;
open) echo "$3" ;;
pread) dd if=/dev/zero bs=1 count=$3 status=none ;;
*) exit 2 ;;
""".strip()


def nbdkit_answers(arguments, transport="unix"):
    with nbdkit(*arguments, transport=transport) as server:
        same_answers(server.uri())


for kind, kind_arguments in NBDKITS.items():
    add_test(f"nbdkit: {kind}", nbdkit_answers, kind_arguments)
for transport_name in transports():
    add_test(f"nbdkit: {transport_name}", nbdkit_answers, ["memory", "1M"], transport_name)


def nbdkit_listless(arguments, match):
    with nbdkit(*arguments) as server:
        same_answers(server.uri(), ([], ["--no-content"]))
        for args in (["--list"], ["--list", "--json"]):
            nbdctl("info", *args, server.uri()).failed(match)


for kind, (kind_arguments, pattern) in LISTLESS_NBDKITS.items():
    add_test(f"nbdkit: {kind}", nbdkit_listless, kind_arguments, pattern)


def nbdkit_strict(arguments):
    """nbdinfo shows no content; we ask in whole blocks that are small enough."""
    with nbdkit(*arguments) as server:
        same_answers(server.uri(), (["--no-content"],))
        check_equal(one_export(server.uri())["content"], "data", "content")


for kind, kind_arguments in STRICT_NBDKITS.items():
    add_test(f"nbdkit: {kind}", nbdkit_strict, kind_arguments)


@test
def test_nbdkit_plugin_with_descriptions():
    script = "#!/bin/sh\ncase $1 in\n" + PLUGIN + "\nesac\n"
    path = scratch_file("plugin", script.encode())
    os.chmod(path, 0o755)
    with nbdkit("sh", path) as server:
        same_answers(server.uri("one"))
        same_answers(server.uri("a name that nobody listed"), ([],))
        check_equal(one_export(server.uri("two"))["description"], "described: two", "description")


@test
def test_nbdkit_strict_names():
    with nbdkit("--filter=exportname", "memory", "1M", "exportname=good", "exportname-strict=true") as server:
        same_answers(server.uri("good"), ([],))
        nbdctl("info", server.uri("bad")).failed('export "bad"')


@test
def test_nbdkit_oldstyle():
    with nbdkit("-o", "memory", "1M") as server:
        nbdctl("info", server.uri()).failed("oldstyle", hint="nbd-server")


@test
def test_nbdkit_read_errors():
    """nbdinfo says nothing of them either."""
    with nbdkit("--filter=error", "memory", "1M", "error-pread=EIO", "error-pread-rate=100%") as server:
        theirs = parse(nbdinfo("--json", server.uri()).out)
        result = nbdctl("info", "--json", server.uri())
        check_equal(result.status, 0, "status")
        result.remarked("no content is shown: .*Input/output error")
        check_equal(typed(parse(result.out)), typed(theirs), "the rest")


@test
def test_nbdkit_slow_reads():
    with nbdkit("--filter=delay", "memory", "1M", "rdelay=5") as server:
        nbdctl("info", "--io-timeout", "500ms", server.uri()).failed("did not answer in time")
        same_answers(server.uri(), (["--no-content"],))


@test
def test_nbdkit_demands_tls():
    """A server that insists is told from one that is broken, before anything is asked of it."""
    keys = scratch_file("keys", b"user:" + b"00" * 32 + b"\n")
    with nbdkit("--tls=require", f"--tls-psk={keys}", "memory", "1M") as server:
        for args in ([], ["--list"], ["--list-contexts"]):
            nbdctl("info", *args, server.uri()).failed("demands TLS", hint="nbds://")


# ---- nbd-server ----


def nbd_server_exports():
    sections = []
    for name, more in (("plain", ""), ("readonly", "readonly = true"), ("flags", "flush = true\nfua = true\ntrim = true"),
                       ("rotational", "rotational = true\nsync = true")):
        disk = scratch_file("disk", random_bytes(1 << 20))
        sections.append(f"[{name}]\nexportname = {disk}\n{more}\n")
    return "".join(sections)


def nbd_server_answers(transport):
    """Without GO it says that every export is empty; we show what GO says, nbdinfo does not."""
    names = ["plain", "readonly", "flags", "rotational"]
    with nbd_server(nbd_server_exports(), transport) as server:
        for name in names:
            same_answers(server.uri(name), (["--no-content"],))
            export = one_export(server.uri(name))
            check_equal((export["export-size"], export["export-size-str"], export["content"]), (1 << 20, "1M", "data"), name)
            check_equal((export["is_read_only"], export["is_rotational"]), (name == "readonly", name == "rotational"), name)
        same_answers(server.uri(), (["--list"],))
        listed = json.loads(nbdctl("info", "--list", "--content", "--json", server.uri()).worked())["exports"]
        check_equal(sorted((export["export-name"], export["content"]) for export in listed),
                    sorted((name, "data") for name in names), "list with content")
        nbdctl("info", server.uri("none")).failed("no such export|may not have", hint="--list")


for transport_name in transports():
    add_test(f"nbd-server: {transport_name}", nbd_server_answers, transport_name)


# ---- who is there at all ----


@test
def test_every_server_of_one_machine():
    """The tests above are worth what their servers are: those they say they are."""
    for name, expected in ((program("qemu-nbd"), "qemu-nbd "), (qemu10("qemu-nbd"), "qemu-nbd 1"),
                           (program("nbdkit"), "nbdkit "), (program("nbdinfo"), "nbdinfo ")):
        words = run([name, "--version"], rss_limit=1 << 30).out.decode()
        check(expected in words, f"{name}: {words}")
    check(provided("need_nbd_tools"), "nbd-server")


if __name__ == "__main__":
    main()
