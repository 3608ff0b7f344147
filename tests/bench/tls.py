#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The guest's part of `scripts/bench tls`: kTLS and the relay beside nbd-client's TLS process, and beside no TLS at all,
on one kernel with one connection each, in alternating rounds.

A number is never an error: the status tells only whether everything ran. nbd-client cannot be told a cipher and knows
TLS 1.2 only, so each cipher has a server of its own that offers no other one. Ratios are those of `attach.py`.
"""
import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile

from attach import KIOPS, MIB, MIB_S, NBD_CLIENT, NBDCTL, NbdClient, Nbdctl, row, serve, title

CIPHERS = {"AES-128-GCM": 10911, "CHACHA20-POLY1305": 10912}
PLAIN_PORT = 10910
OTHER_CIPHERS = ("AES-256-GCM", "AES-256-CCM", "AES-256-CBC", "AES-128-GCM", "AES-128-CCM", "AES-128-CBC",
                 "AES-128-CCM-8", "AES-256-CCM-8", "CHACHA20-POLY1305")
REGION = 64  # MiB
SECONDS = 2  # of nbd-client's time in each round

JOBS = {
    "sequential write, 1 MiB": (MIB_S, 1.5, ["--rw=write", "--bs=1M", "--ioengine=sync"]),
    "sequential read, 1 MiB": (MIB_S, 2.0, ["--rw=read", "--bs=1M", "--ioengine=sync"]),
    "random read, 4 KiB, depth 16": ((KIOPS[0] / 4096, KIOPS[1]), 2.0,
                                     ["--rw=randread", "--bs=4k", "--ioengine=libaio", "--iodepth=16"]),
}
RELAY_GOAL = 1.5


def load_processor_modules():
    """AES instructions among them. On a machine with udev this is done when it boots."""
    alias = "/sys/devices/system/cpu/modalias"
    if os.path.exists(alias):
        with open(alias, encoding="ascii") as file:
            subprocess.run(["modprobe", "--all", "--quiet", file.read().strip()], check=False)


# ---- credentials and servers ----

def certtool(*arguments):
    subprocess.run(["certtool", *arguments], check=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def certificate(folder, name, template):
    """NAME-cert.pem and NAME-key.pem, signed by ca; ca by itself."""
    path = os.path.join(folder, name)
    authority = os.path.join(folder, "ca")
    with open(f"{path}.cfg", "w", encoding="ascii") as file:
        file.write(f"expiration_days = 30\n{template}")
    certtool("--generate-privkey", "--key-type=ecdsa", "--curve=secp256r1", "--outfile", f"{path}-key.pem")
    common = ["--load-privkey", f"{path}-key.pem", "--template", f"{path}.cfg", "--outfile", f"{path}-cert.pem"]
    if name == "ca":
        certtool("--generate-self-signed", *common)
    else:
        certtool("--generate-certificate", "--load-ca-certificate", f"{authority}-cert.pem",
                 "--load-ca-privkey", f"{authority}-key.pem", *common)


def make_credentials(folder):
    """One folder serves both sides: the names differ."""
    certificate(folder, "ca", "cn = ca\nca\ncert_signing_key\n")
    certificate(folder, "server", "cn = localhost\ndns_name = localhost\nip_address = 127.0.0.1\ntls_www_server\n"
                "signing_key\nencryption_key\n")
    certificate(folder, "client", "cn = alice\ntls_www_client\nsigning_key\n")


def serve_plain(port):
    return ["nbdkit", "-f", "-i", "127.0.0.1", "-p", str(port), "memory", f"{REGION}M", "allocator=malloc"]


def serve_tls(folder, cipher, port):
    """nbdkit takes no priority string, but GnuTLS itself can be told what not to offer."""
    settings = os.path.join(folder, f"only-{cipher}")
    with open(settings, "w", encoding="ascii") as file:
        file.write("[overrides]\n" + "".join(f"tls-disabled-cipher = {other}\n"
                                             for other in OTHER_CIPHERS if other != cipher))
    command = serve_plain(port)
    return ["env", f"GNUTLS_SYSTEM_PRIORITY_FILE={settings}", command[0], "--tls=require",
            f"--tls-certificates={folder}", "--tls-verify-peer", *command[1:]]


# ---- the ways to the disk ----

class NbdClientTls(NbdClient):
    def __init__(self, number, folder):
        super().__init__(number)
        self.folder = folder

    def attach_command(self, port):
        # no short forms: nbd-client 3.24 does not know its own -F
        return [NBD_CLIENT, "-N", "disk", "--enable-tls", "--tlshostname", "localhost",
                "--cacertfile", f"{self.folder}/ca-cert.pem", "--certfile", f"{self.folder}/client-cert.pem",
                "--keyfile", f"{self.folder}/client-key.pem", "127.0.0.1", str(port), f"/dev/nbd{self.number}"]


class NbdctlTls(Nbdctl):
    def __init__(self, number, folder, cipher, ktls):
        super().__init__(number, connections=1)
        self.options = [f"--ktls={ktls}", "--tls-certificates", folder, "--tls-priority",
                        f"NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+{cipher}"]

    def attach_command(self, port):
        return [NBDCTL, "attach", *self.option("--connections"), *self.options, f"nbds://127.0.0.1:{port}/disk",
                f"nbd{self.number}"]


def relay_works(client, port):
    """Tried apart from the others, because a program may have been built without it."""
    done = subprocess.run(client.attach_command(port), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                          check=False)
    if done.returncode != 0:
        print(f"relay: not available: {done.stderr.strip()}")
        return False
    client.detach()
    return True


def describe(client):
    """What the session is, as nbdctl sees it."""
    done = subprocess.run([NBDCTL, "status", "--json", f"nbd{client.number}"], stdout=subprocess.PIPE, text=True,
                          check=True)
    tls = json.loads(done.stdout)["sockets"][0].get("tls") or {}
    return " ".join(str(tls[key]) for key in ("mode", "version", "cipher") if tls.get(key)) or "no TLS"


def attach_all(folder):
    """{(cipher, way): client}"""
    clients = {("", "plain"): Nbdctl(1, connections=1)}
    clients[("", "plain")].attach(PLAIN_PORT)
    number = 2
    for cipher, port in CIPHERS.items():
        ways = {"nbd-client": NbdClientTls(number, folder), "kTLS": NbdctlTls(number + 1, folder, cipher, "require"),
                "relay": NbdctlTls(number + 2, folder, cipher, "no")}
        if not relay_works(ways["relay"], port):
            del ways["relay"]
        for way, client in ways.items():
            client.attach(port)
            clients[(cipher, way)] = client
        print(f"{cipher}: nbdctl has {describe(ways['kTLS'])}; nbd-client has TLS 1.2")
        number += 3
    return clients


# ---- measuring ----

def run(clients, options):
    """
    Bytes per second of each, one after the other in one fio: an emulated machine needs seconds to start it.
    """
    jobs = [argument for client in clients for argument in
            (f"--name={client.number}", f"--filename=/dev/nbd{client.number}", "--stonewall", "--direct=1", *options)]
    done = subprocess.run(["fio", "--output-format=json", "--thread", *jobs], stdout=subprocess.PIPE, text=True,
                          check=True, cwd="/")
    side = "write" if "--rw=write" in options else "read"
    results = {int(job["jobname"]): job[side] for job in json.loads(done.stdout[done.stdout.index("{"):])["jobs"]}
    return [results[client.number]["io_bytes"] / (results[client.number]["runtime"] / 1e3) for client in clients]


def amount(client, options):
    """As many MiB as this client moves in a round. The same for all, so that all have as much to warm up."""
    speed, = run([client], [*options, "--io_size=4M"])
    return max(4, min(4 * REGION, int(speed * SECONDS / MIB)))


def run_job(clients, options, rounds):
    """{key: [speed...]}; the first round only warms up."""
    options = [*options, f"--size={REGION}M"]
    options.append(f"--io_size={amount(clients[(next(iter(CIPHERS)), 'nbd-client')], options)}M")
    results = {key: [] for key in clients}
    keys = list(clients)
    for number in range(rounds + 1):
        order = keys if number % 2 == 0 else keys[::-1]
        for key, speed in zip(order, run([clients[key] for key in order], options)):
            if number > 0:
                results[key].append(speed)
    return results


def fill(clients):
    """The servers allocate memory when it is written first: not while anything is measured."""
    run([clients[("", "plain")], *(clients[(cipher, "kTLS")] for cipher in CIPHERS)],
        ["--rw=write", "--bs=1M", "--ioengine=sync", f"--size={REGION}M"])


# ---- the tables ----

def print_against_nbd_client(results):
    for cipher in CIPHERS:
        for way in "kTLS", "relay":
            if (cipher, way) not in next(iter(results.values())):
                continue
            title(f"{cipher}", ours=way)
            for job, result in results.items():
                unit, goal, _ = JOBS[job]
                row(job, result[(cipher, "nbd-client")], result[(cipher, way)], unit,
                    goal if way == "kTLS" else RELAY_GOAL, fewer_is_better=False)


def print_ciphers(results):
    first, second = CIPHERS
    title(f"kTLS: {first} and {second}", "first", "second")
    for job, result in results.items():
        row(job, result[(first, "kTLS")], result[(second, "kTLS")], JOBS[job][0])


def print_plain(results):
    for cipher in CIPHERS:
        for way in "kTLS", "relay", "nbd-client":
            if (cipher, way) not in next(iter(results.values())):
                continue
            title(f"Share of plain speed, {cipher}", "plain", way)
            for job, result in results.items():
                row(job, result[("", "plain")], result[(cipher, way)], JOBS[job][0])


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def print_bounds(clients, servers):
    """A server that is busy all the time, in the one thread that a connection has for TLS, is what bounds the speed."""
    print(f"\n{'CPUs that the server keeps busy meanwhile':<46} " + "".join(f"{way:>11}" for way in ("nbd-client", "kTLS", "relay")))
    for cipher, server in servers.items():
        for job, (_, _, options) in JOBS.items():
            shares = []
            for way in "nbd-client", "kTLS", "relay":
                if (cipher, way) not in clients:
                    continue
                moved = REGION * MIB // (1 if "--bs=1M" in options else 16)
                before = cpu_seconds(server.pid)
                speed, = run([clients[(cipher, way)]], [*options, f"--size={REGION}M", f"--io_size={moved}"])
                shares.append((cpu_seconds(server.pid) - before) / (moved / speed))
            print(f"{cipher + ', ' + job:<46} " + "".join(f"{share:11.2f}" for share in shares), flush=True)


def bench(folder, rounds):
    os.umask(0o077)
    make_credentials(folder)
    servers = [serve(PLAIN_PORT, *serve_plain(PLAIN_PORT))]
    clients = {}
    try:
        tls_servers = {cipher: serve(port, *serve_tls(folder, cipher, port)) for cipher, port in CIPHERS.items()}
        servers += tls_servers.values()
        clients = attach_all(folder)
        fill(clients)
        results = {job: run_job(clients, JOBS[job][2], rounds) for job in JOBS}
        print_against_nbd_client(results)
        print_ciphers(results)
        print_plain(results)
        print_bounds(clients, tls_servers)
    finally:
        for client in clients.values():
            client.detach()
        for server in servers:
            server.terminate()
            server.wait()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=0)
    arguments = parser.parse_args()
    subprocess.run(["modprobe", "-a", "nbd", "tls"], check=True)
    load_processor_modules()
    print(f"kernel {platform.release()}, {os.cpu_count()} CPU, one connection each", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        bench(folder, arguments.rounds or 5)


if __name__ == "__main__":
    sys.exit(main())
