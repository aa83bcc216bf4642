"""Clients that chat with the cluster: `holdfast demo --against`, and what it counts."""

import json
import re
import signal
import subprocess
import tempfile
import threading
import time

from cluster import Failure

ONLINE = "everyone is online"
LOST = " lost its connection"
RESUMED = re.compile(r"has resumed, after ([0-9.]+) ms")
# A few that talk much, and a crowd that talks as much together: of a few resumes it cannot be told how many are slow.
PACE = {"few": "25ms", "crowd": "200ms"}
# All clients log in, or the last messages arrive, within this time.
PATIENCE = 120


class Chat:
    """The clients chat while this is entered; afterwards their tally is there."""

    def __init__(self, cluster, kind):
        self.cluster, self.kind = cluster, kind
        self.lines, self.times, self.report = [], [], None
        self.online = threading.Event()

    def __enter__(self):
        command = [self.cluster.options.holdfast, "demo", "--against", self.cluster.address(), "--ca", self.cluster.trusted(),
                   "--accounts", self.cluster.accounts[self.kind], "--pace", PACE[self.kind], "--duration", "2h", "--json"]
        self.out = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(list(map(str, command)), stdout=self.out, stderr=subprocess.PIPE, text=True)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        if not self.online.wait(PATIENCE) or not any(ONLINE in line for line in self.lines):
            self.process.kill()
            raise Failure("the clients do not come online:\n" + "".join(self.lines[-10:]))
        return self

    def read(self):
        for line in self.process.stderr:
            self.lines.append(line)
            found = RESUMED.search(line)
            if found:
                self.times.append(float(found[1]))
            if ONLINE in line:
                self.online.set()
        # Whoever waits for clients that have failed has to hear of it.
        self.online.set()

    def __exit__(self, kind, *_):
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.reader.join()
        self.out.seek(0)
        out = self.out.read()
        if not out.strip():
            raise Failure("the clients gave up:\n" + "".join(self.lines[-10:]))
        self.report = json.loads(out)
        if kind is None:
            self.judge()

    def judge(self):
        counts = ("lost", "duplicated", "reordered", "bounced", "failed_resumes", "presence_flaps")
        if len(self.times) != self.report["resumes"]:
            raise Failure(f"{self.report['resumes']} resumes, of which {len(self.times)} were told")
        wrong = [f"{self.report[name]} {name}" for name in counts if self.report[name]]
        if wrong:
            said = [line for line in self.lines if "resumed" not in line and "  nodes" not in line]
            raise Failure(f"of {self.report['sent']} messages: {', '.join(wrong)}\n" + "".join(said[-10:]))

    def within(self, seconds):
        """The share of resumes that took no longer."""
        return sum(time <= seconds * 1000 for time in self.times) / max(len(self.times), 1)

    def verdict(self):
        times = sorted(self.times)
        at = lambda share: times[min(int(len(times) * share), len(times) - 1)] / 1000
        resumes = f"{len(times)} resumes, p50 {at(0.5):.2f} s, p99 {at(0.99):.2f} s, max {times[-1] / 1000:.2f} s" if times else "no resumes"
        return f"{self.report['sent']} messages, none lost, twice or out of order; {resumes}"

    def is_calm(self):
        """Whether every client that has lost its connection has another one."""
        return sum(LOST in line for line in self.lines) == len(self.times)

    @staticmethod
    def talk(seconds):
        """Lets them chat on for a while: messages of this time are part of the step."""
        time.sleep(seconds)
