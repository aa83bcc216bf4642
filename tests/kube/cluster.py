"""Holdfast on the Kubernetes cluster that KUBECONFIG names."""

import json
import shutil
import subprocess
import sys
import time

NAMESPACE = "holdfast"
PODS = "app.kubernetes.io/name=holdfast"


class Failure(Exception):
    """A step did not go as it should."""


class Cluster:
    def __init__(self, options, work, root):
        self.options, self.work, self.root = options, work, root
        self.manifests = work / "k8s"
        self.accounts = {"few": work / "few.csv", "crowd": work / "crowd.csv"}
        self.secrets = self.manifests / "overlays/dev/secrets"

    # The command line of Kubernetes.

    def kubectl(self, *words, stdin=None, check=True, timeout=600):
        command = ["kubectl", "--namespace", NAMESPACE, *map(str, words)]
        try:
            done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout)
        except subprocess.TimeoutExpired as late:
            raise Failure(f"kubectl {' '.join(map(str, words))}: no end after {timeout} s") from late
        if check and done.returncode:
            raise Failure(f"kubectl {' '.join(map(str, words))}: {done.stderr.strip() or done.stdout.strip()}")
        return done

    def get(self, *words):
        return json.loads(self.kubectl("get", *words, "-o", "json").stdout)

    def until(self, what, condition, limit=180):
        began, reason = time.monotonic(), ""
        while True:
            try:
                if condition():
                    return time.monotonic() - began
                reason = ""
            except Failure as failure:
                reason = f" ({failure})"
            if time.monotonic() - began > limit:
                raise Failure(f"after {limit} s: not {what}{reason}")
            time.sleep(0.2)

    # What is applied.

    def prepare(self):
        """A copy of the manifests with secrets of its own, and an account for each client."""
        shutil.copytree(self.root / "k8s", self.manifests, ignore=shutil.ignore_patterns("secrets.*"))
        shutil.rmtree(self.secrets, ignore_errors=True)
        subprocess.run([self.manifests / "overlays/dev/prepare"], check=True, stdout=subprocess.DEVNULL)
        for kind, count in (("few", self.options.clients), ("crowd", self.options.crowd)):
            rows = (f"{kind}-{number}@example.org,password-{number}\n" for number in range(1, count + 1))
            self.accounts[kind].write_text("".join(rows))

    def objects(self):
        """The development overlay with the image under test, and hosts to which pods are bound as in production."""
        base, dev = self.render("base"), self.render("overlays/dev")
        workload = lambda objects: next(o for o in objects if o["kind"] == "StatefulSet" and o["metadata"]["name"] == "holdfast")
        pod, real = workload(dev)["spec"]["template"]["spec"], workload(base)["spec"]["template"]["spec"]
        pod["topologySpreadConstraints"] = real["topologySpreadConstraints"]
        pod["containers"][0]["image"] = self.options.image
        return dev

    def render(self, directory):
        text = self.kubectl("kustomize", self.manifests / directory).stdout
        listed = self.kubectl("create", "--dry-run=client", "-o", "json", "-f", "-", stdin=text).stdout
        decoder, objects, rest = json.JSONDecoder(), [], listed.strip()
        while rest:
            found, end = decoder.raw_decode(rest)
            objects += found.get("items", [found])
            rest = rest[end:].strip()
        return objects

    def apply(self):
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": self.objects()})
        self.kubectl("apply", "-f", "-", stdin=text)

    def remove(self):
        self.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", check=False, timeout=300)

    # What is there.

    def pods(self):
        return {pod["metadata"]["name"]: pod for pod in self.get("pods", "-l", PODS)["items"]}

    def uid(self, name):
        return self.pods().get(name, {"metadata": {"uid": ""}})["metadata"]["uid"]

    def ready(self, count=3):
        """Whether so many pods are there, and all are ready."""
        pods = self.pods().values()
        return len(pods) == count and all(map(is_ready, pods))

    def size(self):
        return self.get("statefulset", "holdfast")["spec"]["replicas"]

    def until_ready(self, count=None, limit=240):
        count = count or self.size()
        return self.until(f"{count} pods ready", lambda: self.ready(count), limit)

    def until_replaced(self, name, uid, limit=240):
        """Until another pod of that name is ready."""
        replaced = lambda: self.uid(name) not in ("", uid) and is_ready(self.pods()[name])
        return self.until(f"a new {name}, ready", replaced, limit)

    def restarts(self):
        count = lambda pod: sum(c["restartCount"] for c in pod["status"].get("containerStatuses", []))
        return {name: count(pod) for name, pod in self.pods().items()}

    def status(self, pod="holdfast-0"):
        """What a node says of the cluster."""
        return json.loads(self.kubectl("exec", pod, "--", "holdfast", "cluster", "status", "--json", check=False).stdout or "{}")

    def has_voters(self, count):
        shards = self.status().get("shards", [])
        return shards and all(len(shard["voters"]) == count for shard in shards)

    def settle(self):
        """Until every pod is ready, and each shard has as many voters as it can have."""
        count = self.size()
        self.until_ready(count)
        self.until("all votes given", lambda: self.has_voters(3 if count > 2 else 1), 120)

    # How clients come to it.

    def address(self):
        ports = self.get("service", "holdfast")["spec"]["ports"]
        port = next(p["nodePort"] for p in ports if p["name"] == "xmpps-client")
        return f"{self.options.host}:{port}"

    def trusted(self):
        """A file with the certificates that clients trust: this one, and the one that takes its place later."""
        file, later = self.work / "trusted.pem", self.work / "later.crt"
        if not later.exists():
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                            "-days", "30", "-subj", "/CN=example.org", "-addext", "subjectAltName=DNS:example.org",
                            "-addext", "basicConstraints=critical,CA:FALSE",
                            "-keyout", self.work / "later.key", "-out", later], check=True, capture_output=True)
        file.write_text((self.secrets / "tls.crt").read_text() + later.read_text())
        return file

    def make_accounts(self):
        rows = "".join(file.read_text() for file in self.accounts.values())
        self.kubectl("exec", "-i", "holdfast-0", "--", "holdfast", "user", "import", "-", stdin=rows)

    # What went wrong.

    def explain(self):
        """Prints the pods, their events and the ends of their logs."""
        print(self.kubectl("get", "pods", "-o", "wide", check=False).stdout, file=sys.stderr)
        print(self.kubectl("exec", "holdfast-0", "--", "holdfast", "cluster", "status", check=False).stdout, file=sys.stderr)
        for name in self.pods():
            for previous in ([], ["--previous"]):
                log = self.kubectl("logs", name, "--tail=15", *previous, check=False).stdout
                if log:
                    print(f"--- {name} {' '.join(previous)}\n{log}", file=sys.stderr)


def is_ready(pod):
    conditions = pod["status"].get("conditions", [])
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]
