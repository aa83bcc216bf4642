"""What happens to the cluster, step by step. Each returns what is worth telling, or raises a failure."""

import json
import shlex
import socket
import ssl
import subprocess
import time

from cluster import PODS, Failure

STEPS = []
# What comes between one event and the next, so that messages are under way at both.
PAUSE = 3


def step(clients="few"):
    def add(function):
        function.clients = clients
        STEPS.append(function)
        return function
    return add


@step(clients=None)
def apply(cluster, _):
    began = time.monotonic()
    cluster.apply()
    cluster.until_ready(3, 120)
    took = time.monotonic() - began
    if any(cluster.restarts().values()):
        raise Failure(f"restarts {cluster.restarts()}")
    hosts = {pod["spec"]["nodeName"] for pod in cluster.pods().values()}
    if len(hosts) != 3:
        raise Failure(f"three pods on {hosts}")
    # Nodes are ready without their database, accounts are not made without it.
    cluster.kubectl("rollout", "status", "statefulset/postgresql", "--timeout=120s")
    # What leads clients to the pods may learn of them later.
    cluster.until("a node reached through the Service", lambda: shown(cluster))
    cluster.make_accounts()
    return f"ready after {took:.1f} s"


@step(clients="crowd")
def rollout(cluster, chat):
    """So often that the share of slow resumes is more than a guess."""
    times = []
    for _ in range(cluster.options.rollouts):
        chat.talk(PAUSE)
        began = time.monotonic()
        cluster.kubectl("rollout", "restart", "statefulset/holdfast")
        cluster.kubectl("rollout", "status", "statefulset/holdfast", "--timeout=400s")
        times.append(f"{time.monotonic() - began:.0f} s")
    chat.talk(PAUSE)
    if not chat.times or chat.within(2) < 0.999:
        raise Failure(f"{chat.within(2):.2%} of {len(chat.times)} resumes within 2 s: {sorted(chat.times)[-5:]} ms")
    return f"took {', '.join(times)}, {chat.within(2):.2%} of resumes within 2 s"


def gone(cluster, chat, name, *words):
    """Deletes a pod, and waits for the next of its name."""
    chat.talk(PAUSE)
    uid = cluster.uid(name)
    cluster.kubectl("delete", "pod", name, *words)
    took = cluster.until_replaced(name, uid)
    chat.talk(PAUSE)
    return f"{name} ready again {took:.1f} s later"


@step()
def delete(cluster, chat):
    return gone(cluster, chat, "holdfast-1")


@step()
def force_delete(cluster, chat):
    return gone(cluster, chat, "holdfast-2", "--grace-period=0", "--force")


def evict(cluster, name):
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": "holdfast"}}
    path = f"/api/v1/namespaces/holdfast/pods/{name}/eviction"
    done = cluster.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction), check=False)
    if done.returncode and "disruption budget" not in done.stderr:
        raise Failure(done.stderr)
    return not done.returncode


@step()
def eviction(cluster, chat):
    refused = 0
    for name in ("holdfast-0", "holdfast-1", "holdfast-2"):
        chat.talk(PAUSE)
        uid = cluster.uid(name)
        cluster.until(f"{name} evicted", lambda: evict(cluster, name), 120)
        other = f"holdfast-{(int(name[-1]) + 1) % 3}"
        if evict(cluster, other):
            raise Failure(f"{other} may be evicted while {name} is away")
        refused += 1
        cluster.until_replaced(name, uid)
    chat.talk(PAUSE)
    return f"three pods, one after the other; {refused} times a second one was refused"


@step()
def lost_volume(cluster, chat):
    chat.talk(PAUSE)
    uid = cluster.uid("holdfast-1")
    volume = cluster.get("pvc", "data-holdfast-1")["spec"]["volumeName"]
    cluster.kubectl("delete", "pvc", "data-holdfast-1", "--wait=false")
    cluster.kubectl("delete", "pod", "holdfast-1")
    took = cluster.until_replaced("holdfast-1", uid)
    if cluster.get("pvc", "data-holdfast-1")["spec"]["volumeName"] == volume:
        raise Failure("it came back with its volume")
    chat.talk(PAUSE)
    return f"ready without its volume {took:.1f} s later"


def host(cluster, command, node):
    subprocess.run(command.replace("{node}", shlex.quote(node)), shell=True, check=True, stdout=subprocess.DEVNULL)


def is_lost(cluster, node):
    conditions = cluster.get("node", node)["status"]["conditions"]
    return any(c["type"] == "Ready" and c["status"] != "True" for c in conditions)


def victim(cluster):
    """A pod, its uid and its host, on which there is no database: nobody logs in while the only one is away."""
    ours = cluster.pods()
    taken = {pod["spec"].get("nodeName") for pod in cluster.get("pods")["items"] if pod["metadata"]["name"] not in ours}
    for name, pod in sorted(ours.items(), reverse=True):
        if pod["spec"]["nodeName"] not in taken:
            return name, pod["metadata"]["uid"], pod["spec"]["nodeName"]
    raise Failure(f"each pod shares its host with a database: {taken}")


@step()
def node_loss(cluster, chat):
    options = cluster.options
    if not (options.fail_node and options.mend_node):
        return "SKIPPED: --fail-node and --mend-node say how a host is lost"
    chat.talk(PAUSE)
    name, uid, node = victim(cluster)
    taint = "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"
    began = time.monotonic()
    host(cluster, options.fail_node, node)
    try:
        noticed = cluster.until(f"{node} lost", lambda: is_lost(cluster, node), 120)
        # Somebody has seen that the machine is off; only then may its volumes go to another.
        cluster.kubectl("taint", "node", node, taint)
        cluster.until_replaced(name, uid)
        took = time.monotonic() - began
        if cluster.pods()[name]["spec"]["nodeName"] == node:
            raise Failure("it is where it was")
        chat.talk(PAUSE)
    finally:
        host(cluster, options.mend_node, node)
        cluster.kubectl("taint", "node", node, taint + "-", check=False)
    cluster.until(f"{node} back", lambda: not is_lost(cluster, node), 120)
    return f"{node} noticed after {noticed:.0f} s, {name} replaced after {took:.0f} s"


@step()
def node_cut(cluster, chat):
    """A host that nobody reaches any more and on which everything runs on: its clients hear nothing, and it acts for nobody."""
    options = cluster.options
    if not (options.cut_node and options.mend_node):
        return "SKIPPED: --cut-node and --mend-node say how a host is cut off"
    chat.talk(PAUSE)
    name, uid, node = victim(cluster)
    host(cluster, options.cut_node, node)
    try:
        noticed = cluster.until(f"{node} lost", lambda: is_lost(cluster, node), 120)
        chat.talk(PAUSE)
        cluster.until("all clients resumed", chat.is_calm, 60)
        chat.talk(PAUSE)
    finally:
        host(cluster, options.mend_node, node)
    took = cluster.until(f"{node} back and {name} ready", lambda: not is_lost(cluster, node) and cluster.ready(), 120)
    chat.talk(PAUSE)
    same = "the same pod" if cluster.uid(name) == uid else "another pod"
    return f"{node} noticed after {noticed:.0f} s, {same} ready {took:.0f} s after it was mended"


def stalls(cluster, since):
    """What pods said of shards that stand still."""
    return [line for name in cluster.pods() for line in log(cluster, name, since) if "has committed nothing" in line]


@step()
def scale(cluster, chat):
    times, since = [], now()
    for before, count in ((3, 5), (5, 3), (3, 1), (1, 3)):
        chat.talk(PAUSE)
        began = time.monotonic()
        cluster.kubectl("scale", "statefulset/holdfast", f"--replicas={count}")
        cluster.until_ready(count)
        cluster.settle()
        times.append(f"{before} to {count}: {time.monotonic() - began:.0f} s")
        # Long enough that a node without a replica would notice a shard that stands still, if it thought so.
        chat.talk(2 * PAUSE)
        if stalled := stalls(cluster, since):
            raise Failure(f"with {count} pods: {stalled[0]}")
    return ", ".join(times)


def everyone(cluster, chat, *words):
    chat.talk(PAUSE)
    uids = {name: pod["metadata"]["uid"] for name, pod in cluster.pods().items()}
    cluster.kubectl("delete", "pod", "-l", PODS, *words)
    waits = [cluster.until_replaced(name, uid) for name, uid in uids.items()]
    chat.talk(PAUSE)
    return f"ready again {sum(waits):.1f} s later"


@step()
def all_at_once(cluster, chat):
    return everyone(cluster, chat)


@step()
def all_killed(cluster, chat):
    return everyone(cluster, chat, "--grace-period=0", "--force")


def log(cluster, name, since):
    """The lines that a pod has logged since then. Not everything that plays a kubelet looks at the time."""
    lines = cluster.kubectl("logs", name, f"--since-time={since}", check=False).stdout.splitlines()
    return [line for line in lines if line.partition('"timestamp":"')[2] >= since]


def now():
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 1))


@step()
def configuration(cluster, chat):
    """A key that may change while a node runs does, on all nodes, and no pod restarts."""
    chat.talk(PAUSE)
    before, since = (cluster.restarts(), sorted(map(cluster.uid, cluster.pods()))), now()
    text = cluster.get("configmap", "holdfast-config")["data"]["holdfast.toml"]
    patch = {"data": {"holdfast.toml": text + '\n[sm]\nhibernation_time = "299s"\n'}}
    cluster.kubectl("patch", "configmap", "holdfast-config", "--type=merge", "-p", json.dumps(patch))
    has_read = lambda name: any("the configuration was read again" in line for line in log(cluster, name, since))
    read = lambda: all(map(has_read, cluster.pods()))
    took = cluster.until("the configuration read again on all nodes", read, 180)
    if before != (cluster.restarts(), sorted(map(cluster.uid, cluster.pods()))):
        raise Failure("a pod has restarted")
    return f"in force {took:.0f} s after the change"


def shown(cluster):
    """The certificate that a node shows."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    name, port = cluster.address().rsplit(":", 1)
    try:
        with socket.create_connection((name, int(port)), timeout=5) as plain:
            with context.wrap_socket(plain, server_hostname="example.org") as secure:
                return ssl.DER_cert_to_PEM_cert(secure.getpeercert(True)).strip()
    except OSError as error:
        raise Failure(f"{name}:{port}: {error}") from error


@step()
def certificate(cluster, chat):
    """Every node shows the new certificate, and no connection is lost."""
    chat.talk(PAUSE)
    resumes = len(chat.times)
    later = (cluster.work / "later.crt").read_text().strip()
    made = cluster.kubectl("create", "secret", "tls", "holdfast-tls", "--dry-run=client", "-o", "json",
                           f"--cert={cluster.work / 'later.crt'}", f"--key={cluster.work / 'later.key'}").stdout
    cluster.kubectl("apply", "-f", "-", stdin=made)
    # The Service leads to any of the nodes.
    took = cluster.until("the new certificate shown", lambda: all(shown(cluster) == later for _ in range(12)), 180)
    chat.talk(PAUSE)
    if len(chat.times) != resumes:
        raise Failure(f"{len(chat.times) - resumes} clients had to resume")
    return f"shown {took:.0f} s after the change"


def births(cluster, count):
    """Founds clusters, and says how many of them had a pod that restarted, and why."""
    bad = 0
    for number in range(1, count + 1):
        began = time.monotonic()
        cluster.apply()
        cluster.until_ready(3)
        took = time.monotonic() - began
        time.sleep(1)
        restarts = {name: count for name, count in cluster.restarts().items() if count}
        print(f"birth {number}: ready after {took:.1f} s {restarts or ''}", flush=True)
        if restarts:
            bad += 1
            cluster.explain()
        cluster.kubectl("delete", "statefulset", "holdfast")
        cluster.kubectl("delete", "pod", "-l", PODS, "--grace-period=0", "--force", check=False)
        cluster.until("no pods", lambda: not cluster.pods())
        cluster.kubectl("delete", "pvc", "data-holdfast-0", "data-holdfast-1", "data-holdfast-2")
    print(f"{bad} of {count} births had a pod that restarted")
    return bad
