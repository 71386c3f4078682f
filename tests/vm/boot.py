"""Running QEMU: which accelerator works, one boot with the checkout and a command, the command's status back."""

from __future__ import annotations

import contextlib
import io
import os
import re
import select
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.tools import CHECKOUT, LEFT_OUT, DidNotRunError, program, say
from tests.vm.initramfs import initramfs
from tests.vm.kernel import Kernel

READY = b"minipod-vm ready"
STATUS = re.compile(rb"minipod-vm status (\d+)")
PROBE_TIMEOUT_S = 10
READY_TIMEOUT_S = 60
SYSTEMD_READY_TIMEOUT_S = 180
BOOTS = 3
MEMORY_MIB = 2048

#: `max` without cmpxchg16b: with it QEMU 7.2's software emulation crashes most boots of Linux 6.12
ACCELERATORS = {
    "kvm": ("-accel", "kvm", "-cpu", "host"),
    "tcg": ("-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max,-cx16"),
}


class Machine:
    """QEMU with this kernel; what the guest writes to its second serial line comes out of `output_fd`."""

    def __init__(self, accelerator: str, kernel: Kernel, folder: Path, words: str, arguments: Sequence[str]) -> None:
        initrd = folder / "initramfs"
        initrd.write_bytes(initramfs(kernel))
        self.console = folder / "console.log"
        self.process = subprocess.Popen(
            [
                program("qemu-system-x86_64"), *ACCELERATORS[accelerator], "-machine", "q35",
                "-smp", str(min(2, os.cpu_count() or 1)), "-m", str(MEMORY_MIB),
                "-nodefaults", "-no-user-config", "-display", "none",
                "-serial", f"file:{self.console}", "-serial", "stdio",
                "-kernel", str(kernel.image), "-initrd", str(initrd),
                "-append", f"console=ttyS0 loglevel=4 mitigations=off {words}", *arguments,
            ],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.output_fd = self.process.stdout.fileno()

    def read(self, deadline: float) -> Iterator[bytes]:
        """What comes until QEMU ends; TimeoutError at the deadline (time.monotonic)."""
        while True:
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not select.select([self.output_fd], [], [], left_s)[0]:
                raise TimeoutError
            chunk = os.read(self.output_fd, 65536)
            if not chunk:
                return
            yield chunk

    def wait_ready(self, timeout_s: float) -> bytes | None:
        """What the guest has written since it is ready; None where it does not say so in time."""
        seen = b""
        with contextlib.suppress(TimeoutError):
            for chunk in self.read(time.monotonic() + timeout_s):
                seen += chunk
                if READY in seen:
                    return seen.partition(READY)[2].lstrip(b"\r\n")
        return None

    def last_words(self) -> str:
        """The end of the kernel's messages and of QEMU's own, after it was ended."""
        assert self.process.stderr is not None
        text = self.process.stderr.read().decode(errors="replace")
        if self.console.exists():
            text = self.console.read_text(errors="replace") + text
        return "\n".join(text.strip().splitlines()[-15:])

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def machine(
    accelerator: str, kernel: Kernel, folder: Path, words: str, arguments: Sequence[str] = ()
) -> Iterator[Machine]:
    """`words`: for the kernel's command line, on which `init` finds them. `arguments`: QEMU's."""
    made = Machine(accelerator, kernel, folder, words, arguments)
    try:
        yield made
    finally:
        made.end()
        for stream in (made.process.stdout, made.process.stderr):
            assert stream is not None
            stream.close()


def accelerator_for(kernel: Kernel, cache: Path) -> str:
    """`kvm` where a kernel really boots under it: that /dev/kvm opens does not say so. Remembered until a reboot."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    memory = cache / "accelerator"
    with contextlib.suppress(FileNotFoundError, ValueError):
        known, found = memory.read_text().split()
        if known == boot_id:
            return found
    say(f"trying whether KVM works here (at most {PROBE_TIMEOUT_S} s)")
    with (
        tempfile.TemporaryDirectory(prefix="minipod-vm") as folder,
        machine("kvm", kernel, Path(folder), "minipod.probe") as probe,
    ):
        found = "tcg" if probe.wait_ready(PROBE_TIMEOUT_S) is None else "kvm"
    memory.write_text(f"{boot_id} {found}\n")
    return found


def run_in_vm(
    command: str, *, kernel: Kernel, root: Path, accelerator: str, timeout_s: float, systemd: bool = False
) -> int:
    """Runs a shell command in a copy of the checkout in the VM, its output on stdout; returns its status.

    `systemd`: it is the image's first process, the command is a service of it and may reboot the machine
    (`systemd-guest`). Boots again where the guest does not report in time, never once the command has begun. Raises
    DidNotRunError.
    """
    with tempfile.TemporaryDirectory(prefix="minipod-vm", dir="/var/tmp") as name:
        folder = Path(name)
        _pack(command, folder / "checkout.tar")
        answer = folder / "answer"
        answer.write_bytes(bytes(4096))
        disks = (
            _disk(root, "snapshot=on", "cache=unsafe"),
            _disk(kernel.modules, "readonly=on"),
            _disk(folder / "checkout.tar", "readonly=on"),
            _disk(answer),
        )
        # a panic ends QEMU; systemd's machine may reboot, and one that panics hangs until its time is over
        arguments = [] if systemd else ["-no-reboot"]
        words = "minipod.systemd systemd.getty_auto=no" if systemd else "panic=-1"
        arguments += [word for disk in disks for word in ("-drive", disk)]
        patience_s = SYSTEMD_READY_TIMEOUT_S if systemd else READY_TIMEOUT_S
        for attempt in range(1, BOOTS + 1):
            with machine(accelerator, kernel, folder, words, arguments) as vm:
                first = vm.wait_ready(patience_s)
                if first is not None:
                    _relay(vm, first, timeout_s)
                    return _status_of(vm, answer)
                vm.end()
                say(f"boot {attempt} of {BOOTS} did not report in {patience_s} s:\n{vm.last_words()}")
        raise DidNotRunError(f"the VM did not boot {BOOTS} times")


def _relay(vm: Machine, first: bytes, timeout_s: float) -> None:
    """The guest's output to stdout until it powers off."""
    write: Callable[[bytes], object] = sys.stdout.buffer.write
    write(first)
    try:
        for chunk in vm.read(time.monotonic() + timeout_s):
            write(chunk)
            sys.stdout.buffer.flush()
    except TimeoutError:
        raise DidNotRunError(f"the tests did not end in {timeout_s:.0f} s (--time-limit)") from None


def _status_of(vm: Machine, answer: Path) -> int:
    vm.process.wait(timeout=30)
    found = STATUS.search(answer.read_bytes())
    if found is None:
        raise DidNotRunError(f"the VM ended without a status; its last words:\n{vm.last_words()}")
    return int(found.group(1))


def _disk(path: Path, *options: str) -> str:
    return ",".join((f"file={path}", "if=virtio", "format=raw", *options))


def _pack(command: str, archive: Path) -> None:
    """The working tree as it is, not as it was committed, compiled modules included: compiling is slow in there."""
    with tarfile.open(archive, "w") as tar:
        tar.add(CHECKOUT, "", filter=lambda member: None if Path(member.name).name in LEFT_OUT else member)
        script = tarfile.TarInfo(".vm-command")
        text = command.encode()
        script.size = len(text)
        tar.addfile(script, io.BytesIO(text))
