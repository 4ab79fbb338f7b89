"""virtio-net on taps: iperf3 both ways, echo requests, nginx under wrk. Without root's taps (--net user): iperf3."""

import json
import os
import re
import subprocess
import tempfile
import time
import urllib.request

from benchlib.runs import Broken, Stuck, RUN_TIMEOUT, again_if_stuck, interleave, paired_ratio, start, summary, whole_output
from benchlib.vmms import WORKLOAD, Link, Mvm, Qemu

CASES = {  # title, unit, what divides for the table
    "out": ("iperf3, guest to host", "Mbit/s", 1e6),
    "in": ("iperf3, host to guest", "Mbit/s", 1e6),
    "ping": ("echo request and reply", "µs", 1e3),
    "nginx": ("nginx in the guest under wrk, 16 connections", "requests/s", 1),
}
USER_CASES = {
    "user-out": ("--net user: iperf3, guest to a neighbour", "Mbit/s", 1e6),
    "user-in": ("--net user: iperf3, a neighbour to guest", "Mbit/s", 1e6),
}
COSTS = {  # KVM's counter, or the tap's: title
    "exits": "exits of the vCPU",
    "mmio_exits": "of them to the VMM",
    "irq_injections": "interrupts",
    "tx_packets": "packets back",
}
KVM_COUNTERS = "/sys/kernel/debug/kvm"
PINGS = 500
USER_MTU = 65520  # mvm's own with --net user, and passt's
SMALLER_IS_BETTER = ("ping",)


def sh(*cmd):
    done = subprocess.run(cmd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Broken(f"{' '.join(cmd)}: {done.stderr.strip()}")


class Networked:
    """A VMM with a NIC on its own tap; command() runs with the address set, by whom ever."""

    def __init__(self, vmm, number, vhost=None):
        self.vmm, self.link, self.vhost = vmm, Link(number), vhost
        self.name = vmm.name if vhost is None else f"QEMU, vhost {'on' if vhost else 'off'}"

    def make(self):
        sh("ip", "tuntap", "add", "dev", self.link.tap, "mode", "tap")
        sh("ip", "address", "add", f"{self.link.host}/24", "dev", self.link.tap)
        sh("ip", "link", "set", self.link.tap, "up")

    def remove(self):
        subprocess.run(["ip", "link", "del", self.link.tap], capture_output=True, check=False)

    def command(self, args):
        if self.vhost is None:
            return self.vmm.command(args, options=("--net", f"tap={self.link.tap},ip={self.link.guest}"))
        return self.vmm.command([WORKLOAD, "net", self.link.guest] + args, options=(
            "-netdev", f"tap,id=n0,ifname={self.link.tap},script=no,downscript=no,vhost={'on' if self.vhost else 'off'}",
            "-device", "virtio-net-device,netdev=n0"))


class User(Networked):
    """A VMM in a network namespace whose only neighbour is this one: mvm with --net user, QEMU with passt."""

    def __init__(self, vmm, number, passt=None):
        super().__init__(vmm, number)
        self.space, self.veth, self.passt = f"mvmbench{number}", f"mvmbench{number}v", passt
        net = ("198.51.100", "203.0.113")[number % 2]  # RFC 5737: nobody's, and no private network
        self.link.host, self.own = f"{net}.1", f"{net}.2/24"
        self.name = vmm.name if passt is None else "QEMU, passt"

    def make(self):
        sh("ip", "netns", "add", self.space)
        sh("ip", "link", "add", self.veth, "type", "veth", "peer", "name", "v0", "netns", self.space)
        sh("ip", "address", "add", f"{self.link.host}/24", "dev", self.veth)
        sh("ip", "link", "set", self.veth, "up")
        for args in (["address", "add", self.own, "dev", "v0"], ["link", "set", "v0", "up"], ["link", "set", "lo", "up"],
                     ["route", "add", "default", "via", self.link.host]):
            sh("ip", "-n", self.space, *args)

    def remove(self):
        subprocess.run(["ip", "netns", "del", self.space], capture_output=True, check=False)

    def command(self, args):
        inside = ["nsenter", f"--net=/run/netns/{self.space}"]  # `ip netns exec` would hide the cgroups
        if self.passt is None:
            return inside + self.vmm.command(args, options=("--net", "user", "--allow-egress", self.link.host))
        # passt goes into the background when it listens, and ends with its one client
        passt = f"rm -f {self.passt}; passt --quiet --one-off --no-map-gw --socket {self.passt}; exec \"$@\""
        return inside + ["sh", "-c", passt, "passt"] + self.vmm.command([WORKLOAD, "net", self.own] + args, options=(
            "-netdev", f"stream,id=n0,server=off,addr.type=unix,addr.path={self.passt}",
            "-device", f"virtio-net-device,netdev=n0,host_mtu={USER_MTU}"))


def finish(child, stop=False):
    if stop:
        child.terminate()
    return whole_output(child, silent=stop)


def iperf(net, seconds, reverse):
    server = subprocess.Popen(["iperf3", "-s", "-1", "-B", net.link.host], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL)
    try:
        args = ["iperf3", "-c", net.link.host, "-t", str(seconds), "-O", "1", "-J"] + (["-R"] if reverse else [])
        text = finish(start(net.command(args)))
        rate = json.loads(text[text.index("{"):text.rindex("}") + 1])["end"]["sum_received"]["bits_per_second"]
        if rate <= 0:
            raise ValueError(f"nothing came within {seconds} s")
        return rate
    except (ValueError, KeyError) as e:
        raise Broken(f"{net.name}: iperf3: {e}: {text[:500]}") from None
    finally:
        server.kill()
        server.wait()


def ping(net):
    text = finish(start(net.command([WORKLOAD, "ping", net.link.host, str(PINGS)])))
    found = re.search(r"median (\d+)", text)
    if not found:
        raise Broken(f"{net.name}: ping: {text[:500]}")
    return int(found.group(1))


def nginx(net, seconds):
    url = f"http://{net.link.guest.split('/')[0]}/"
    child = start(net.command(["nginx", "-c", "/bench/nginx.conf"]))
    try:
        end = time.monotonic() + RUN_TIMEOUT / 2
        while True:
            try:
                with urllib.request.urlopen(url, timeout=2) as answer:
                    answer.read()
                    break
            except OSError as e:
                if time.monotonic() > end or child.poll() is not None:
                    raise (Broken if child.poll() is not None else Stuck)(f"{net.name}: nginx: {e}") from None
                time.sleep(0.05)
        done = subprocess.run(["wrk", "-t", "1", "-c", "16", "-d", f"{seconds}s", url], capture_output=True, text=True,
                              check=False, timeout=RUN_TIMEOUT)
        found = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
        if not found or "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
            raise Stuck(f"{net.name}: wrk: {done.stdout}{done.stderr}")
        return float(found.group(1))
    finally:
        finish(child, stop=True)


def check_mtu(net):
    """Broken where the guest's NIC has not the MTU that the other's has: segments of another size are another comparison."""
    text = finish(start(net.command(["cat", "/sys/class/net/eth0/mtu"]))).strip()  # passt's own words are before it
    if not re.search(rf"^{USER_MTU}\s*$", text, re.M):
        raise Broken(f"{net.name}: an MTU of {USER_MTU} was wanted: {text[-500:]}")


def counters(net):
    """What COSTS names, and the bytes that the guest has sent, so far."""
    found = {}
    for name in COSTS:
        folder = f"/sys/class/net/{net.link.tap}/statistics" if name.endswith("packets") else KVM_COUNTERS
        with open(os.path.join(folder, name), encoding="ascii") as f:
            found[name] = int(f.read())
    with open(f"/sys/class/net/{net.link.tap}/statistics/rx_bytes", encoding="ascii") as f:
        found["bytes"] = int(f.read())
    return found


@again_if_stuck
def costs(net, seconds):
    """COSTS for each MiB that the guest sends, in `seconds` in the midst of an iperf3; OSError without KVM's counters."""
    began = counters(net)["bytes"]
    server = subprocess.Popen(["iperf3", "-s", "-1", "-B", net.link.host], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL)
    try:
        child = start(net.command(["iperf3", "-c", net.link.host, "-t", str(seconds + 4)]))
        end = time.monotonic() + RUN_TIMEOUT / 2
        while counters(net)["bytes"] < began + (16 << 20) and child.poll() is None and time.monotonic() < end:
            time.sleep(0.1)
        before = counters(net)
        time.sleep(seconds)
        after = counters(net)
        text = finish(child)
        sent = after["bytes"] - before["bytes"]
        if sent < 1 << 20:
            raise Stuck(f"{net.name}: iperf3: {sent} bytes in {seconds} s: {text[:500]}")
        return {name: (after[name] - before[name]) * (1 << 20) / sent for name in COSTS}
    finally:
        server.kill()
        server.wait()


def compare_costs(nets, options, found, progress):
    if not os.path.exists(f"{KVM_COUNTERS}/exits"):
        subprocess.run(["mount", "-t", "debugfs", "none", "/sys/kernel/debug"], capture_output=True, check=False)
    try:
        results = interleave(nets, options.net_pairs, lambda name: costs(nets[name], options.net_seconds), progress)
    except OSError as e:
        found["skipped"]["costs"] = f"KVM's counters: {e}"
        return
    except Broken as e:
        found["failed"].append(str(e))
        return
    found["costs"] = {name: {"name": nets[name].name} | {cost: summary([run[cost] for run in runs]) for cost in COSTS}
                      for name, runs in results.items()}


@again_if_stuck
def measure(net, case, seconds):
    if case == "ping":
        return ping(net)
    return nginx(net, seconds) if case == "nginx" else iperf(net, seconds, case.endswith("in"))


def compare(title, nets, cases, options, found, progress):
    for case in cases:
        try:
            results = interleave(nets, options.net_pairs,
                                 lambda name, c=case: measure(nets[name], c, options.net_seconds), progress)
        except Broken as e:  # the other cases are worth their lines
            found["failed"].append(str(e))
            continue
        found["cases"][case] = {name: summary(v) | {"name": nets[name].name, "ratio": paired_ratio(results["mvm"], v)}
                                for name, v in results.items()}
    found["commands"][title] = {name: net.command(["iperf3", "-c", net.link.host]) for name, net in nets.items()}


def run(files, options, progress):
    nets = {"mvm": Networked(Mvm(files), 0), "qemu": Networked(Qemu(files), 1, vhost=False),
            "qemu-vhost": Networked(Qemu(files), 2, vhost=True)}
    found = {"skipped": {}, "cases": {}, "costs": {}, "commands": {}, "failed": []}
    subprocess.run(["modprobe", "-a", "tun", "vhost_net", "veth"], capture_output=True, check=False)
    with tempfile.TemporaryDirectory(prefix="mvm-bench-") as folder:
        os.chmod(folder, 0o777)  # passt gives up root
        user = {"mvm": User(Mvm(files), 4), "qemu-passt": User(Qemu(files), 5, f"{folder}/passt")}
        try:
            for net in (*nets.values(), *user.values()):
                net.make()
            try:
                measure(nets["qemu-vhost"], "ping", options.net_seconds)
            except Broken as e:
                found["skipped"]["qemu-vhost"] = str(e)
                nets.pop("qemu-vhost").remove()
            for net in user.values():
                check_mtu(net)
            compare("tap", nets, CASES, options, found, progress)
            compare_costs(nets, options, found, progress)
            compare("user", user, USER_CASES, options, found, progress)
        finally:
            for net in (*nets.values(), *user.values()):
                net.remove()
    return found


def show(found, out):
    out.title("virtio-net on a tap of the host's, and without, medians")
    table = [("", "", "", "mvm's ratio to it", "")]
    for case, rows in found["cases"].items():
        title, unit, scale = (CASES | USER_CASES)[case]
        for row in rows.values():
            table.append((title, row["name"], f"{row['median'] / scale:.0f} {unit}", f"{row['ratio']:.2f}",
                          "less is better" if case in SMALLER_IS_BETTER else ""))
    out.table(table)
    if found["costs"]:
        out.title("what a MiB from guest to host on a tap costs, medians")
        out.table([("", *COSTS.values(), "")] + [(row["name"], *(f"{row[cost]['median']:.1f}" for cost in COSTS), "")
                                                 for row in found["costs"].values()])
    for name, why in found["skipped"].items():
        out.line(f"{name} skipped: {why}")
