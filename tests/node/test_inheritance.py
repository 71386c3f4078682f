"""What the first caller's process was is no pod's: an agent started from a strange one makes the same containers."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from minipod.agent import inheritance
from minipod.kernel import inherit, process
from minipod.kernel.libc import syscall
from tests import builders
from tests.builders import container
from tests.conftest import CHECKOUT
from tests.node_fixtures import COMMAND_TIMEOUT_S, Node
from tests.spawner_host import spawner_of
from tests.volume_pods import wait_for

pytestmark = pytest.mark.vm

FIELDS = "Sig(Blk|Ign)|Shd|Cap|Groups|NoNewPrivs|Cpus_allowed_list|Mems_allowed_list|THP_enabled|Umask|Uid|Gid"
#: nice, real-time priority, policy
SCHEDULING = "19,40,41"
VIEW = (
    f"umask; ulimit -a; ulimit -Ha; grep -E '^({FIELDS})' /proc/self/status; cut -d' ' -f{SCHEDULING} /proc/self/stat; "
    "cd /proc/self; for i in timerslack_ns coredump_filter personality oom_score_adj loginuid; do echo $i $(cat $i); "
    "done; cd /; stat -c '%A %u %g %n' / /etc /dev /tmp /etc/hosts; ls /proc/self/fd; ionice; env | sort"
)
PR_CAP_AMBIENT_RAISE, CAP_NET_RAW = 2, 13
SECBIT_NO_SETUID_FIXUP = 4
PR_SET_THP_DISABLE, ADDR_NO_RANDOMIZE = 41, 0x0040000


def strange() -> None:
    """Everything that fork and exec hand on, as far as it can be undone: hard limits stay as they are."""
    os.umask(0o077)
    for number in (resource.RLIMIT_NOFILE, resource.RLIMIT_CORE, resource.RLIMIT_MEMLOCK, resource.RLIMIT_MSGQUEUE):
        resource.setrlimit(number, (60, resource.getrlimit(number)[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_STACK, (1 << 20, resource.RLIM_INFINITY))
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    os.setpriority(os.PRIO_PROCESS, 0, 15)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    syscall("ioprio_set", 1, 0, 3 << 13)
    syscall("personality", ADDR_NO_RANDOMIZE)
    syscall("prctl", inherit.PR_SET_TIMERSLACK, 1_000_000, 0, 0, 0)
    syscall("prctl", PR_SET_THP_DISABLE, 1, 0, 0, 0)
    syscall("prctl", inherit.PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0)
    inherit.write_own("oom_score_adj", "500")
    inherit.write_own("coredump_filter", "0x7f")
    os.setgroups((7, 8, 9))
    permitted = process.permitted_capabilities()
    process.capset(effective=permitted, permitted=permitted, inheritable=permitted)
    syscall("prctl", process.PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_RAW, 0, 0)
    for fd in range(3):
        os.close(fd)


def view(node: Node, before: Callable[[], None] | None, tmp_path: Path, **environment: str) -> tuple[str, str]:
    """What a container and a command in it say of themselves, where this is the process that started the agent."""
    manifest = tmp_path / "pod.yaml"
    manifest.write_text(builders.manifest(builders.pod("v", container("a", f"({VIEW}) 2>&1; exec sleep 1000"))))
    subprocess.run(
        node.command("run", "-d", "--until", "running", str(manifest)), check=True, preexec_fn=before,
        env={"PATH": os.environ["PATH"]} | node.env | environment, timeout=COMMAND_TIMEOUT_S, close_fds=before is None,
    )  # fmt: skip
    node("wait", "pod", "v", "--for=condition=Ready", "--timeout=30s")
    executed = node("exec", "v", "--", "sh", "-c", f"({VIEW}) 2>&1").stdout
    return node("logs", "v").stdout, executed


def test_pods_do_not_differ_by_what_the_agent_was_started_from(node: Node, tmp_path: Path) -> None:
    plain = view(node, None, tmp_path)
    node("delete", "pod", "v", "--grace-period=0", "--force")
    node.close()
    log = Path(node.paths.root, "agent.log")
    log.unlink()
    secret_fd = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(secret_fd, True)
    os.chmod(node.paths.root, 0o777)
    os.chmod(f"{node.paths.root}/exits", 0o755)
    os.chown(node.paths.state, 1000, -1)
    try:
        seen = view(node, strange, tmp_path, SECRET="first", LD_PRELOAD="/nowhere.so", LC_ALL="C", HTTPS_PROXY="kept")
    finally:
        os.close(secret_fd)
    assert "open files                      (-n) 1024" in seen[0]
    for name, one, other in zip(("its own process", "exec"), plain, seen, strict=True):
        assert other.splitlines() == one.splitlines(), name
    pid = node.agent_pid()
    assert pid is not None
    environment = Path(f"/proc/{pid}/environ").read_text()
    assert ("SECRET" in environment, "LD_PRELOAD" in environment, "HTTPS_PROXY=kept" in environment) == (0, 0, 1)
    assert str(tmp_path) not in {os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir() if fd.is_symlink()}
    assert [stat.S_IMODE(os.stat(f"{node.paths.root}{name}").st_mode) for name in ("", "/exits")] == [0o755, 0o700]
    assert os.stat(node.paths.state).st_uid == 0
    text = log.read_text()
    assert f"{node.paths.root}: mode was 0777: set to 0755" in text
    assert f"{node.paths.state}: belonged to user 1000: given to root" in text


def test_what_cannot_be_undone_is_in_the_log(node: Node, tmp_path: Path) -> None:
    def before() -> None:
        process.set_no_new_privs()
        process.unshare(process.CLONE_NEWUTS | process.CLONE_NEWNET)

    view(node, before, tmp_path)
    text = Path(node.paths.root, "agent.log").read_text()
    assert "no_new_privs is set and goes to every container: set-uid programs do nothing there" in text
    assert "net namespace: not that of the host's first process: pods reach the outside through it" in text
    if inherit.namespace(1, "uts"):  # the host's first process may have more rights than this root
        assert "uts namespace: not that of the host's first process: its host name is the node's" in text


def test_the_agent_s_memory_is_bounded_and_nothing_else_is_by_it(node: Node, tmp_path: Path) -> None:
    """Also where the spawner is one that the agent had to start anew."""
    own, _ = view(node, None, tmp_path)
    pid = node.agent_pid()
    assert pid is not None
    spawner = spawner_of(pid)
    assert resource.prlimit(pid, resource.RLIMIT_DATA) == (inheritance.AGENT_DATA_BYTES, resource.RLIM_INFINITY)
    assert "data seg size (kb)              (-d) unlimited" in own
    spawner.kill()
    wait_for(lambda: not spawner.is_running() or spawner.status() == psutil.STATUS_ZOMBIE)
    node("delete", "pod", "v", "--grace-period=0", "--force")
    own, executed = view(node, None, tmp_path)
    again = spawner_of(pid)
    assert again != spawner
    assert resource.prlimit(again.pid, resource.RLIMIT_DATA) == (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    assert own.count("(-d) unlimited") == executed.count("(-d) unlimited") == 2


def test_too_much_memory_is_an_error_and_not_the_agent_s_end(tmp_path: Path) -> None:
    code = """if True:
        from minipod.agent import inheritance
        inheritance.limit_own_memory()
        try:
            bytearray(inheritance.AGENT_DATA_BYTES)
        except MemoryError:
            bytearray(inheritance.AGENT_DATA_BYTES // 4)
            print("goes on")
    """
    done = subprocess.run([sys.executable, "-c", code], check=True, cwd=CHECKOUT, capture_output=True, text=True)
    assert done.stdout == "goes on\n"


def test_a_file_size_limit_that_cannot_be_raised_is_refused_with_its_remedy(node: Node, tmp_path: Path) -> None:
    def before() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        if process.permitted_capabilities() >> 24 & 1:  # CAP_SYS_RESOURCE
            process.drop_bounding_capabilities(~(1 << 24), 24)

    manifest = tmp_path / "pod.yaml"
    manifest.write_text(builders.manifest(builders.pod("v", container("a", "true"))))
    done = subprocess.run(
        node.command("run", "-d", str(manifest)), preexec_fn=before, env=os.environ | node.env, check=False,
        capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S,
    )  # fmt: skip
    assert done.returncode == 3
    assert "the caller's limit is 4096 bytes in a file, an agent needs 67108864" in done.stderr
    assert "start the agent without ulimit -f" in done.stderr


def test_the_table_is_taken_by_a_process_that_then_has_it(tmp_path: Path) -> None:
    """In a process of its own, each attribute with what the kernel then says of it."""
    code = """if True:
        import os, prctl, pwd, resource, signal
        from minipod.agent import environment, inheritance
        found = inheritance.take_over()
        assert os.umask(0) == inheritance.UMASK
        assert os.getcwd() == "/"
        assert prctl.get_securebits() == 0
        assert (os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0)) == (0, os.SCHED_OTHER)
        assert len(os.sched_getaffinity(0)) == os.cpu_count()
        assert (signal.pthread_sigmask(signal.SIG_BLOCK, ()), os.getgroups()) == (set(), [])
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        assert sorted(os.listdir("/proc/self/fd"))[:3] == ["0", "1", "2"]
        assert open("/proc/self/personality").read().strip() == "00000000"
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert soft == hard > 60
        assert "SECRET" not in os.environ
        assert os.environ["HOME"] == pwd.getpwuid(0).pw_dir
        assert os.environ["PATH"] == environment.PATH
    """
    subprocess.run(
        [sys.executable, "-c", code], check=True, preexec_fn=strange, close_fds=False, cwd=CHECKOUT,
        env={"SECRET": "x", "HOME": "/none"},
    )  # fmt: skip
