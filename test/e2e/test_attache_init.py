"""attache-init: the rules it prints, and what it leaves behind in a network namespace."""

import os
import pathlib
import re
import shlex
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
INIT = os.environ.get("ATTACHE_INIT", str(ROOT / "build/release/attache-init"))
SHARED = pathlib.Path(os.environ.get("ATTACHE_SHARED", ROOT.parent / "shared"))
INJECTED = ["-p", "15001", "-z", "15006", "-u", "1337", "-m", "REDIRECT", "-i", "*", "-x", "",
            "-b", "*", "-d", "15090,15021,15020"]


def run(*args, env=None, prefix=()):
    environment = {"PATH": os.environ["PATH"], **(env or {})}
    return subprocess.run([*prefix, INIT, *args], capture_output=True, text=True, timeout=60,
                          env=environment)


# --- rules as data --------------------------------------------------------------------------------
def normal(rule):
    """A rule as the set of its matches: order and a comment mean nothing."""
    rule = re.sub(r' -m comment --comment "?[^" ]+"?', "", rule)
    words, parts = shlex.split(rule), []
    for word in words:
        if word == "!" or (word.startswith("-") and not (parts and parts[-1] == ["!"])):
            parts.append([word])
        else:
            parts[-1].append(word)
    return frozenset(" ".join(p) for p in parts)


def parse(text):
    """The tables that restore input (or a list of iptables commands) makes: one for each family."""
    families, table = [], None
    for line in text.splitlines():
        line = line.strip()
        if line.startswith("*"):
            name = line[1:].strip()
            if not families or name in families[-1]:
                families.append({})
            table = families[-1].setdefault(name, {})
        elif line.startswith(":"):
            table[line[1:].split()[0]] = []
        elif line.startswith("-N "):
            table[line[3:].strip()] = []
        elif line.startswith("-A "):
            _, chain, rule = line.split(" ", 2)
            table.setdefault(chain, []).append(normal(rule))
        elif line.startswith("-I "):
            _, chain, position, rule = line.split(" ", 3)
            table.setdefault(chain, []).insert(int(position) - 1, normal(rule))
    return families


GOLDENS = {
    "empty": [],
    "basic-exclude-nic": ["-c", "not-istio-nic"],
    "drop-invalid": ["--drop-invalid"],
    "host-ipv4-loopback-cidr": ["--host-ipv4-loopback-cidr", "127.0.0.1/8"],
    "inbound-ports-include": ["-b", "32000,31000"],
    "inbound-ports-wildcard": ["-b", "*"],
    "ipnets": ["-i", "10.0.0.0/8"],
    "ipnets-with-kube-virt-interfaces": ["-k", "eth1,eth2", "-i", "10.0.0.0/8"],
    "kube-virt-interfaces": ["-k", "eth1,eth2", "-i", "*"],
    "outbound-owner-groups": ["--owner-groups", "java,202"],
    "outbound-owner-groups-exclude": ["--owner-groups-exclude", "888,ftp"],
    "outbound-ports-include": ["-q", "32000,31000"],
    "ipv6-empty-inbound-ports": ["--ipv6", "on"],
    "ipv6-inbound-ports": ["--ipv6", "on", "-b", "4000,5000"],
    "ipv6-outbound-ports": ["--ipv6", "on", "-q", "32000,31000"],
    "ipv6-virt-interfaces": ["--ipv6", "on", "-b", "4000,5000", "-k", "eth0,eth1"],
    "ipv6-ipnets": ["--ipv6", "on", "-b", "4000,5000", "-d", "6000,7000,", "-k", "eth0,eth1",
                    "-x", "2001:db8::/32", "-i", "2001:db8::/32"],
    "ipv6-uid-gid": ["--ipv6", "on", "-b", "4000,5000", "-d", "6000,7000", "-k", "eth0,eth1",
                     "-g", "1,2", "-u", "3,4", "-x", "2001:db8::/32", "-i", "2001:db8::/32"],
}


@pytest.mark.parametrize("name", GOLDENS)
def test_prints_the_rules_istio_installs(name):
    golden = SHARED / "istio/iptables" / f"{name}.golden"
    if not golden.exists():
        if os.environ.get("ATTACHE_REQUIRE_SHARED") == "1":
            pytest.fail(f"{golden} is not there")
        pytest.skip(f"{golden} is not there")
    result = run("--dry-run", *(["--ipv6", "off"] if "--ipv6" not in GOLDENS[name] else []),
                 *GOLDENS[name])
    assert result.returncode == 0, result.stderr
    assert parse(result.stdout) == parse(golden.read_text())


def test_comparison_sees_a_difference():
    """The comparison above can fail: order within a chain, a match and its negation count."""
    base = "*nat\n:A - [0:0]\n-A A -p tcp -j B\n-A A -d 1.1.1.1/32 -j RETURN\nCOMMIT\n"
    assert parse(base) == parse(base.replace("-p tcp -j B", "-j B -p tcp"))
    assert parse(base) != parse(base.replace("-p tcp", "! -p tcp"))
    assert parse(base) != parse(base.replace("1.1.1.1", "1.1.1.2"))
    swapped = "*nat\n:A - [0:0]\n-A A -d 1.1.1.1/32 -j RETURN\n-A A -p tcp -j B\nCOMMIT\n"
    assert parse(base) != parse(swapped)


def test_flags_from_the_environment():
    by_flag = run("--dry-run", "--ipv6=off", "-p", "25001", "-u", "7", "-b", "80")
    by_env = run("--dry-run", env={"ENVOY_PORT": "25001", "PROXY_UID": "7", "IPV6": "off",
                                   "ISTIO_INBOUND_PORTS": "80"})
    assert by_flag.stdout == by_env.stdout and "--to-ports 25001" in by_flag.stdout
    overridden = run("--dry-run", "--ipv6=off", "-p", "25001", "-u", "7", "-b", "80",
                     env={"ENVOY_PORT": "1", "PROXY_UID": "9"})
    assert overridden.stdout == by_flag.stdout


@pytest.mark.parametrize("args,words", [
    (["-m", "TPROXY"], "TPROXY is not implemented"),
    (["-m", "redirect"], "REDIRECT"),
    (["--redirect-dns"], "redirect-dns=true: not implemented"),
    (["--capture-all-dns=true"], "not implemented"),
    (["--native-nftables"], "not implemented"),
    (["--run-validation"], "not implemented"),
    (["--restore-format=false"], "only true"),
    (["-t", "1337"], "invalid option"),
    (["--no-such-flag"], "unrecognized option"),
    (["stray"], "'stray' is not a flag"),
    (["-p"], "requires an argument"),
    (["-p", "0"], "1 to 65535"),
    (["-p", "65536"], "1 to 65535"),
    (["-p", "15001x"], "1 to 65535"),
    (["-p", ""], "1 to 65535"),
    (["-z", "-1"], "1 to 65535"),
    (["-b", "80,http"], "1 to 65535"),
    (["-b", "80,*"], "* stands alone"),
    (["-d", "*"], "not possible"),
    (["-o", "80:90"], "1 to 65535"),
    (["-u", "root"], "an id is a number"),
    (["-u", "4294967295"], "below 4294967295"),
    (["-u", ","], "at least one id"),
    (["-g", "-5"], "an id is a number"),
    (["-i", "10.0.0.0"], "a network is written"),
    (["-i", "10.0.0.0/33"], "a network is written"),
    (["-i", "10.0.0/8"], "a network is written"),
    (["-i", "10.0.0.0/8 -j ACCEPT"], "a network is written"),
    (["-i", "2001:db8::/129"], "a network is written"),
    (["-i", "*,10.0.0.0/8"], "* stands alone"),
    (["-x", "*"], "not possible"),
    (["-k", "eth0 -j ACCEPT"], "not the name of an interface"),
    (["-k", "sixteen-letters-"], "not the name of an interface"),
    (["-c", "--flush"], "not the name of an interface"),
    (["-c", "a\nCOMMIT"], "not the name of an interface"),
    (["--owner-groups", "a b"], "not the name or number of a group"),
    (["--owner-groups", "a", "--owner-groups-exclude", "b"], "not both"),
    (["--owner-groups", ",".join(str(i) for i in range(65))], "at most 64"),
    (["--host-ipv4-loopback-cidr", "10.0.0.0/8"], "127.0.0.0/8"),
    (["--drop-invalid=maybe"], "true or false"),
    (["--ipv6", "perhaps"], "auto, on or off"),
    (["--iptables-version", "2"], "legacy or nft"),
])
def test_refuses(args, words):
    result = run("--dry-run", *args)
    assert result.returncode == 2, (result.stdout, result.stderr)
    assert words in result.stderr
    assert "-A " not in result.stdout


def test_refuses_dns_capture_asked_for_by_environment():
    result = run("--dry-run", env={"ISTIO_META_DNS_CAPTURE": "true"})
    assert result.returncode == 2 and "not implemented" in result.stderr


# --- in a network namespace -----------------------------------------------------------------------
class Namespace:
    """A network namespace of its own; in a user namespace when this is not root, where the rules
    need the proxy's user id, and so newuidmap and a range in /etc/subuid."""

    def __init__(self):
        flags = ["-n"] if os.geteuid() == 0 else ["-U", "--map-root-user", "--map-auto", "-n"]
        self.process = subprocess.Popen(
            ["unshare", *flags, "--kill-child", "--fork", "sh", "-c", "echo; exec sleep 600"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != "\n":
            pytest.skip("no network namespace here: " + self.process.stderr.read().strip())
        child = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self.process.pid)],
                               capture_output=True, text=True, check=True).stdout.strip()
        user = [] if os.geteuid() == 0 else ["-U", "--preserve-credentials"]
        self.prefix = ["nsenter", "-t", child, "-n", *user]

    def call(self, command, check=True, **more):
        return subprocess.run([*self.prefix, *shlex.split(command)], capture_output=True,
                              text=True, timeout=60, check=check, **more)

    def state(self):
        """All rules of both families, without counters and comments."""
        text = ""
        for program in ("iptables-save", "ip6tables-save"):
            text += re.sub(r"(?m)^#.*\n", "", self.call(program).stdout)
        return re.sub(r"\[\d+:\d+\]", "", text)

    def chains(self):
        return re.findall(r"(?m)^:(ISTIO_\S+)", self.state())

    def close(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def netns():
    namespace = Namespace()
    namespace.call("ip link set lo up")
    if namespace.call("iptables -t nat -L -n", check=False).returncode != 0:
        namespace.close()
        pytest.skip("iptables does not work in a network namespace here")
    yield namespace
    namespace.close()


def test_applies_what_it_prints(netns):
    assert run(*INJECTED, prefix=netns.prefix).returncode == 0
    printed = parse(run("--dry-run", "--ipv6=off", *INJECTED).stdout)[0]["nat"]
    saved = parse(netns.call("iptables-save -t nat").stdout)[0]["nat"]
    for chain, rules in printed.items():
        # iptables-save names the match modules of -p and of the owner; strip what it adds
        got = [frozenset(w for w in rule if w != "-m tcp") for rule in saved[chain]]
        assert got == rules, chain


@pytest.mark.parametrize("more", [
    [], ["--ipv6", "on"], ["-k", "eth1,eth2", "-c", "eth7", "--ipv6", "on"], ["--drop-invalid"],
    ["-o", "22,53", "-q", "443", "-x", "10.1.0.0/16,2001:db8::/32", "--ipv6", "on"]])
def test_twice_is_as_once_and_cleanup_leaves_nothing(netns, more):
    netns.call("iptables -t nat -A OUTPUT -p tcp --dport 9999 -j RETURN")
    netns.call("iptables -t nat -N OTHERS")
    netns.call("ip6tables -t nat -A PREROUTING -p tcp --dport 9999 -j RETURN")
    netns.call("iptables -t mangle -A PREROUTING -p tcp --dport 9998 -j ACCEPT")
    before = netns.state()
    once = run(*INJECTED, *more, prefix=netns.prefix)
    assert once.returncode == 0, once.stderr
    state = netns.state()
    assert "ISTIO_OUTPUT" in state and state != before
    for _ in range(2):
        assert run(*INJECTED, *more, prefix=netns.prefix).returncode == 0
        assert netns.state() == state
    cleanup = run("--cleanup", prefix=netns.prefix)
    assert cleanup.returncode == 0, cleanup.stderr
    assert netns.state() == before
    assert "::6/128" not in netns.call("ip -6 addr show dev lo").stdout
    again = run("--cleanup", prefix=netns.prefix)
    assert again.returncode == 0 and netns.state() == before


def test_other_options_replace_the_rules(netns):
    assert run(*INJECTED, "--drop-invalid", "-k", "eth9", prefix=netns.prefix).returncode == 0
    assert "ISTIO_DROP" in netns.chains() and "eth9" in netns.state()
    assert run("-u", "42", "-i", "10.0.0.0/8", prefix=netns.prefix).returncode == 0
    state = netns.state()
    assert "ISTIO_DROP" not in netns.chains() and "eth9" not in state and "1337" not in state
    assert "--uid-owner 42" in state and "-A PREROUTING" not in state


def test_ipv6_is_found_by_a_global_address(netns):
    assert run(*INJECTED, prefix=netns.prefix).returncode == 0
    assert "ISTIO" not in netns.call("ip6tables-save").stdout
    netns.call("ip link add d0 type veth peer name d1")
    netns.call("ip -6 addr add 2001:db8::5/64 dev d0 nodad")
    netns.call("ip link set d0 up")
    assert run(*INJECTED, prefix=netns.prefix).returncode == 0
    assert "-s ::6/128" in netns.call("ip6tables-save").stdout
    assert "::6/128" in netns.call("ip -6 addr show dev lo").stdout


def test_a_refused_family_changes_nothing(netns, tmp_path):
    """ip6tables-restore refuses: the IPv4 rules are not applied either."""
    fake = tmp_path / "ip6tables-restore"
    fake.write_text("#!/bin/sh\ncat >/dev/null\nexit 4\n")
    fake.chmod(0o755)
    before = netns.state()
    result = run(*INJECTED, "--ipv6", "on", prefix=netns.prefix,
                 env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert result.returncode == 1 and "ip6tables-restore failed with exit code 4" in result.stderr
    assert netns.state() == before


def test_iptables_missing(tmp_path):
    result = subprocess.run([INIT], capture_output=True, text=True, timeout=60,
                            env={"PATH": str(tmp_path)})
    assert result.returncode == 1
    assert "iptables-save cannot be run: No such file" in result.stderr


# --- what the rules do to connections -------------------------------------------------------------
LISTEN = r"""
import socket, struct, sys, threading

def original(sock):
    if sock.family == socket.AF_INET6:
        data = sock.getsockopt(41, 80, 28)  # SOL_IPV6, IP6T_SO_ORIGINAL_DST
        return socket.inet_ntop(socket.AF_INET6, data[8:24]), struct.unpack_from('!H', data, 2)[0]
    data = sock.getsockopt(0, 80, 16)  # SOL_IP, SO_ORIGINAL_DST
    return socket.inet_ntoa(data[4:8]), struct.unpack_from('!H', data, 2)[0]

def serve(listener, port):
    while True:
        sock, _ = listener.accept()
        try:
            where = '%s %d' % original(sock)
        except OSError:
            where = 'none'
        sock.sendall(('%d %s' % (port, where)).encode())
        sock.close()

for family, any_address in ((socket.AF_INET, '0.0.0.0'), (socket.AF_INET6, '::')):
    for port in (15001, 15006, 8080, 15021):
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((any_address, port))
        listener.listen()
        threading.Thread(target=serve, args=(listener, port)).start()
print('up', flush=True)
"""
CONNECT = r"""
import encodings.idna, os, socket, sys  # all that is needed later: a user may not read it then
address, port, source, uid = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
if uid:
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
try:
    sock = socket.create_connection((address, port), 1, (source, 0) if source else None)
    print(sock.recv(100).decode())
except OSError as error:
    print(type(error).__name__)
"""


@pytest.fixture
def pod(netns):
    """A pod with the injected rules and listeners, and a neighbour."""
    neighbour = Namespace()
    pid = neighbour.prefix[2]
    netns.call(f"ip link add eth0 type veth peer name eth0 netns {pid}")
    for namespace, number in ((netns, 2), (neighbour, 1)):
        namespace.call("ip link set lo up")
        namespace.call(f"ip addr add 10.9.0.{number}/24 dev eth0")
        namespace.call(f"ip -6 addr add 2001:db8::{number}/64 dev eth0 nodad")
        namespace.call("ip link set eth0 up")
    netns.call("ip route add default via 10.9.0.1")
    netns.call("ip -6 route add default via 2001:db8::1")
    applied = run(*INJECTED, "-o", "9090", "-x", "10.8.0.0/16", prefix=netns.prefix)
    assert applied.returncode == 0, applied.stderr
    listeners = subprocess.Popen([*netns.prefix, "python3", "-c", LISTEN], text=True,
                                 stdout=subprocess.PIPE)
    assert listeners.stdout.readline() == "up\n"

    def connect(address, port, uid=0, source="", to=netns):
        return to.call(f"python3 -c {shlex.quote(CONNECT)} {address} {port} '{source}' {uid}"
                       ).stdout.strip()
    yield connect, neighbour
    listeners.kill()
    listeners.wait()
    listeners.stdout.close()
    neighbour.close()


@pytest.mark.parametrize("far,own,local,marked", [
    ("10.7.7.7", "10.9.0.2", "127.0.0.1", "127.0.0.6"),
    ("2001:db8:7::7", "2001:db8::2", "::1", "::6")], ids=["ipv4", "ipv6"])
def test_where_connections_go(pod, far, own, local, marked):
    connect, neighbour = pod
    # the application outwards: to the proxy, which can see where it was going
    assert connect(far, 80) == f"15001 {far} 80"
    # excluded ports, and the proxy itself: nobody answers out there
    assert connect(far, 9090) in ("TimeoutError", "OSError", "ConnectionRefusedError")
    assert connect(far, 80, uid=1337) in ("TimeoutError", "OSError", "ConnectionRefusedError")
    # from outside: to the proxy's inbound port, but for its own ports
    assert connect(own, 8080, to=neighbour) == f"15006 {own} 8080"
    assert connect(own, 15021, to=neighbour).startswith("15021 ")
    # the application to itself: directly
    assert connect(local, 8080).startswith("8080 ")
    assert connect(own, 8080).startswith("8080 ")
    # the proxy to its own pod by another address is inbound; to the application it comes from the
    # marked address and arrives
    assert connect(own, 8080, uid=1337) == f"15006 {own} 8080"
    assert connect(own, 8080, uid=1337, source=marked).startswith("8080 ")
    assert connect(local, 8080, uid=1337).startswith("8080 ")


def test_excluded_networks_are_left_alone(pod):
    connect, _ = pod
    assert connect("10.8.1.1", 80) in ("TimeoutError", "OSError", "ConnectionRefusedError")
    assert connect("10.7.1.1", 80) == "15001 10.7.1.1 80"
