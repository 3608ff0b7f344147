#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The guest's part of `scripts/bench recover`: how soon I/O flows again once a server is back, and what an agent costs
that has nothing to do.

There is nothing to compare with: nbd-client's netlink mode does not reconnect. A reader reads one block after the
other, bypassing the page cache; the server is killed under it and comes back after a while; what counts is the time
from its listening again to the first read that is done. A number is never an error.
"""
import argparse
import mmap
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time

NBDCTL = os.environ["NBDCTL_BIN"]
PORT = 10951
BLOCK = 4096
GOALS = {1: 3.0, 4: 12.0}  # seconds, by connections


def listens(port):
    with open("/proc/net/tcp", encoding="ascii") as table:
        return any(f":{port:04X} 00000000:0000 0A" in line for line in table)


class Server:
    def __init__(self, folder, tls):
        self.command = ["qemu-nbd", "-t", "-f", "raw", "-e", "32", "-b", "127.0.0.1", "-p", str(PORT), "-x", "disk"]
        if tls:
            self.command += ["--object", f"tls-creds-psk,id=t,endpoint=server,dir={folder}", "--tls-creds", "t"]
        self.command.append(os.path.join(folder, "disk.img"))
        self.process = None

    def start(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL)
        while not listens(PORT):
            if self.process.poll() is not None:
                sys.exit("bench: qemu-nbd does not start")
            time.sleep(0.002)
        return time.monotonic()

    def kill(self):
        self.process.kill()
        self.process.wait()


class Reader(threading.Thread):
    """Two of them, so that one always waits when the server dies."""

    def __init__(self, device):
        super().__init__(daemon=True)
        self.fd = os.open(device, os.O_RDONLY | os.O_DIRECT)
        self.last = 0.0
        self.error = None
        self.done = False

    def run(self):
        buffer = mmap.mmap(-1, BLOCK)
        blocks = os.lseek(self.fd, 0, os.SEEK_END) // BLOCK
        try:
            while not self.done:
                os.preadv(self.fd, [buffer], random.randrange(blocks) * BLOCK)
                self.last = time.monotonic()
                time.sleep(0.001)
        except OSError as error:
            self.error = error
        os.close(self.fd)


def agent_pid():
    for entry in os.listdir("/proc"):
        try:
            with open(f"/proc/{entry}/comm", encoding="ascii") as file:
                if file.read().strip() == "nbdctl-agent":
                    return int(entry)
        except OSError:
            pass
    return sys.exit("bench: there is no agent")


def field(path, name):
    with open(path, encoding="ascii") as file:
        for line in file:
            if line.startswith(name + ":"):
                return int(line.split()[1])
    return 0


def idle_cost(pid):
    """Wake-ups in 10 s, and KiB of memory that are the process's own."""
    time.sleep(2)  # it settles in
    before = field(f"/proc/{pid}/status", "voluntary_ctxt_switches")
    time.sleep(10)
    wakeups = field(f"/proc/{pid}/status", "voluntary_ctxt_switches") - before
    rollup = f"/proc/{pid}/smaps_rollup"
    return wakeups, field(rollup, "Private_Dirty") + field(rollup, "Private_Clean"), field(rollup, "Private_Dirty")


def measure(server, device, rounds):
    """Seconds from the server's return to the first read done after it, and to the last of those that waited."""
    readers = [Reader(device) for _ in range(2)]
    for reader in readers:
        reader.start()
    time.sleep(1)
    first, all_of_them = [], []
    for _ in range(rounds):
        server.kill()
        time.sleep(random.uniform(0.5, 3.0))
        back = server.start()
        seen = {}
        while len(seen) < len(readers):
            for reader in readers:
                if reader.error:
                    sys.exit(f"bench: a read failed: {reader.error}")
                if reader.last > back:
                    seen.setdefault(reader, reader.last - back)
            time.sleep(0.001)
        first.append(min(seen.values()))
        all_of_them.append(max(seen.values()))
        time.sleep(random.uniform(1.2, 1.8))
    for reader in readers:
        reader.done = True
        reader.join()
    return first, all_of_them


def bench(folder, rounds):
    uri = f"nbds://alice@127.0.0.1:{PORT}/disk?tls-psk-file={folder}/keys.psk"
    modes = {"plain": (False, f"nbd://127.0.0.1:{PORT}/disk", []), "TLS in the kernel": (True, uri, ["--ktls=require"]),
             "relay": (True, uri, ["--ktls=no"])}
    print(f"{'back to the first read, and to the last that waited':<52} {'median':>7} {'worst':>7} s {'median':>7} {'worst':>7} s  goal")
    costs = {}
    for mode, (tls, where, options) in modes.items():
        for connections in (1, 4):
            server = Server(folder, tls)
            server.start()
            subprocess.run([NBDCTL, "-q", "attach", *options, "--connections", str(connections), where, "nbd0"], check=True,
                           stdout=subprocess.DEVNULL)
            if connections == 1:
                costs[mode] = idle_cost(agent_pid())
            first, last = measure(server, "/dev/nbd0", rounds)
            goal = GOALS[connections]
            verdict = f"<= {goal:.0f} s  {'met' if statistics.median(last) <= goal else 'missed'}"
            print(f"{mode + ', ' + str(connections) + ' connection' + ('s' if connections > 1 else ''):<52}"
                  f" {statistics.median(first):7.2f} {max(first):7.2f}   {statistics.median(last):7.2f} {max(last):7.2f}    {verdict}",
                  flush=True)
            subprocess.run([NBDCTL, "detach", "nbd0"], check=True)
            server.kill()
    print(f"\n{'an agent with nothing to do':<52} {'wake-ups in 10 s':>17} {'own memory, KiB':>17} {'of it written':>15}")
    for mode, (wakeups, private, dirty) in costs.items():
        verdict = "met" if wakeups == 0 and private <= 6144 else "missed"
        print(f"{mode:<52} {wakeups:17} {private:17} {dirty:15}  0 and <= 6144  {verdict}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=0)
    arguments = parser.parse_args()
    subprocess.run(["modprobe", "nbd"], check=False)
    print(f"kernel {platform.release()}")
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "disk.img"), "wb") as file:
            file.truncate(64 << 20)
        with open(os.open(os.path.join(folder, "keys.psk"), os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="ascii") as file:
            file.write(f"alice:{os.urandom(32).hex()}\n")
        bench(folder, arguments.rounds or 20)


main()
