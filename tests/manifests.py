"""Checks what the manifests hold to, as kustomize renders them: manifests.py DIRECTORY, with a file for each overlay.

Prints a file per object of Kubernetes itself, for a validator; it knows no schemas of others.
"""

import pathlib
import sys
import tomllib

import yaml

OTHERS = {"cert-manager.io/v1"}
# How long a drain may take besides the two times that are configured.
DRAIN = 40
SECONDS = {"grace": 5, "spread": 5}

directory = pathlib.Path(sys.argv[1])


def load(name):
    return [found for found in yaml.safe_load_all((directory / f"{name}.yaml").read_text()) if found]


def one(objects, kind, name="holdfast"):
    found = [o for o in objects if o["kind"] == kind and o["metadata"]["name"] == name]
    return found[0] if found else None


def check(holds, what):
    if not holds:
        sys.exit(f"manifests: {what}")


def templates(objects):
    return [o["spec"]["template"] for o in objects if o["kind"] in ("StatefulSet", "Deployment")]


for overlay in ("base", "dev", "production"):
    objects = load(overlay)
    for index, found in enumerate(o for o in objects if o["apiVersion"] not in OTHERS):
        file = directory / f"{overlay}-{index}.yaml"
        file.write_text(yaml.safe_dump(found))
        print(file)
    workload = one(objects, "StatefulSet")
    pod = workload["spec"]["template"]["spec"]
    check(all(o["metadata"].get("namespace") == "holdfast" for o in objects if o["kind"] != "Namespace"),
          f"{overlay}: something is in another namespace")
    check(workload["spec"]["podManagementPolicy"] == "Parallel", f"{overlay}: pods wait for each other to be ready")
    check(set(workload["spec"]["persistentVolumeClaimRetentionPolicy"].values()) == {"Retain"}, f"{overlay}: volumes are deleted")
    budget = one(objects, "PodDisruptionBudget")["spec"]
    check((budget["maxUnavailable"], budget["unhealthyPodEvictionPolicy"]) == (1, "AlwaysAllow"), f"{overlay}: budget")
    # What the restricted profile demands, and a root file system that cannot be written to.
    for template in templates(objects):
        secure, containers = template["spec"]["securityContext"], template["spec"]["containers"]
        check(secure["runAsNonRoot"] and secure["seccompProfile"]["type"] == "RuntimeDefault", f"{overlay}: a pod may be root")
        check(not template["spec"]["automountServiceAccountToken"], f"{overlay}: a pod gets a token")
        for container in containers:
            own = container["securityContext"]
            check(not own["allowPrivilegeEscalation"] and own["readOnlyRootFilesystem"], f"{overlay}: a container may too much")
            check(own["capabilities"]["drop"] == ["ALL"], f"{overlay}: a container has capabilities")
    # No selector of ours may catch the pods of a database.
    ours = one(objects, "Service")["spec"]["selector"]
    caught = [t for t in templates(objects) if ours.items() <= t["metadata"]["labels"].items()]
    check(len(caught) == 1, f"{overlay}: the Service leads to {len(caught)} kinds of pods")
    configuration = tomllib.loads(one(objects, "ConfigMap", "holdfast-config")["data"]["holdfast.toml"])
    times = SECONDS | {key: int(value.removesuffix("s")) for key, value in configuration.get("drain", {}).items()}
    least = sum(times.values()) + DRAIN
    check(pod["terminationGracePeriodSeconds"] >= least, f"{overlay}: a drain may take {least} s, and is killed before that")
    ports = [rule["ports"] for rule in one(objects, "NetworkPolicy")["spec"]["ingress"] if "from" not in rule]
    check([[p["port"] for p in rule] for rule in ports] == [["c2s", "c2s-tls", "web"]], f"{overlay}: strangers reach another port")

spread = lambda name: {c["topologyKey"]: c["whenUnsatisfiable"]
                       for c in one(load(name), "StatefulSet")["spec"]["template"]["spec"]["topologySpreadConstraints"]}
for overlay in ("base", "production"):
    check(spread(overlay) == {"kubernetes.io/hostname": "DoNotSchedule", "topology.kubernetes.io/zone": "ScheduleAnyway"},
          f"{overlay}: {spread(overlay)}")
check("DoNotSchedule" not in spread("dev").values(), "dev: one host is not enough")
for overlay in ("dev", "production"):
    check("replace-me" not in (directory / f"{overlay}.yaml").read_text(), f"{overlay}: a placeholder is left")
production = load("production")
check("replicas" not in one(production, "StatefulSet")["spec"], "production: an apply undoes what the autoscaler did")
check(one(production, "HorizontalPodAutoscaler")["spec"]["minReplicas"] >= 3, "production: too few survive a loss")
check(one(production, "Secret", "holdfast-secrets") is None, "production: it comes with secrets")
proxy = tomllib.loads(one(production, "ConfigMap", "holdfast-config")["data"]["holdfast.toml"])["c2s"]
check(proxy["proxy_protocol"] and proxy["trusted_proxies"], "production: PROXY headers are not read")
