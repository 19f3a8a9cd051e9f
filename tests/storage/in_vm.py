# SPDX-License-Identifier: Apache-2.0
"""Runs the tests of this folder inside the storage VM, and has pytest on the host report them as its own.

Why inside: what the tests do is file operations in sysfs and configfs, open descriptors, and processes to start and to
kill. There that is plain Python, and tests/guest runs its guest there too. From outside, each of those would be a command
of its own through the VM's control port, and take a hundred times as long.

On the host, pytest collects and selects as always (-k, node ids, --collect-only). At the first test of this folder
HostSide boots the VMs, once for all of them: two, as a VM's tests run one after another and keep little more than one
processor busy. Each gets whole files, and starts pytest with just those of their tests that were selected. There VmSide
writes each report, when it comes, as a line of JSON into a file of the VM's share; HostSide hands it to the host's
pytest when it is that test's turn, which shows and counts it, and writes it to its JUnit file. If a VM dies or a test
never ends, that test has failed, with the VM's last words, and the VM's other tests go on in a new one. Tests marked
on_host stay outside. A VM with tests marked ceph is started in the namespaces of a Ceph cluster, whose daemons an emulated
processor is too slow for, and is told of it by a file of its share.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shlex
import time

import image
import pytest
from ceph import USER, CephCluster
from namespaces import NamespaceError, why_impossible
from storage_namespaces import StorageNamespaces
from storage_vm import SHARE, StorageVm, StorageVmError

HERE = pathlib.Path(__file__).resolve().parent
INSIDE = "AIOLOS_STORAGE_VM"  # set in the environment of the tests: where they are
VM, NAMESPACES = "vm", "namespaces"
VMS = 2
TEST_LIMIT = 600  # seconds for one test with its fixtures
# Seconds after which a VM is nudged: once in a while an emulated processor that waits for its timer sleeps on (the kernel's
# log: "timer wakeup didn't happen"), until another interrupt wakes it.
NUDGE = 10
# What a test takes on a quiet machine, by its file, where that is more or less than of others.
SECONDS = {"test_aio_budget.py": 40, "test_crash.py": 14, "test_krbd.py": 12.5, "test_fibre_channel.py": 10.5,
           "test_local.py": 8, "test_nvmeof.py": 11.5, "test_iscsi.py": 9, "test_nfs.py": 7}
SECONDS_OF_OTHERS = 2
DISKS = {"nfs": "512M", "lvm": "1G"}
MEMORY_MIB = 3072
REPORTS, LOG, CLUSTER = "reports.jsonl", "pytest.log", "ceph.json"
CLUSTER_SUBNET = "10.9.0"  # not 127.0.0: in the VM that is the VM itself
PASSED_ON = ("AIOLOS", "AIOLOS_STATE")
WHEN_STUCK = "ps -eo pid,stat,wchan:30,args | grep -v '\\]$'; dmesg | tail -n 30"


def is_inside() -> bool:
    return INSIDE in os.environ


def in_the_vm() -> bool:
    """Rather than in namespaces of the host."""
    return os.environ[INSIDE] == VM


class HostSide:
    def __init__(self, config: pytest.Config):
        self.config = config
        self.runs: list[VmRun] | None = None  # None: not begun
        self.no_vm = ""  # why there is none, for the tests after the first that wanted it

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        if not wants_vm(item):
            return None
        hook = item.ihook
        hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        try:
            for report in self.run_of(item).reports_of(item):
                hook.pytest_runtest_logreport(report=self.report(report))
        except (StorageVmError, image.ImageError) as error:
            hook.pytest_runtest_logreport(report=failed(item, str(error)))
        hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def run_of(self, item: pytest.Item) -> VmRun:
        if self.no_vm:
            raise StorageVmError(f"not run, for the storage VM failed before: {self.no_vm}")
        try:
            if self.runs is None:
                self.begin([each for each in item.session.items if wants_vm(each)])
            return next(run for run in self.runs if run.has(item))
        except (StorageVmError, image.ImageError) as error:
            self.no_vm = str(error).partition("\n")[0]
            raise

    def begin(self, items: list[pytest.Item]) -> None:
        image.build()  # of the guest that tests run in the VM, where nothing can be downloaded
        self.runs = []
        can_be_beside = not why_impossible()
        of_any_kernel = [item for item in items if can_be_beside and item.get_closest_marker("any_kernel")]
        for share in shares_of([item for item in items if item not in of_any_kernel]):
            self.runs.append(VmRun(self.config, share, self.runs))
        if of_any_kernel:
            self.runs.append(VmRun(self.config, of_any_kernel, self.runs, where=NAMESPACES))
        for run in self.runs:
            run.launch()
        for run in self.runs:
            run.begin()
        terminal = self.config.pluginmanager.get_plugin("terminalreporter")
        terminal.write_line("storage VMs: ready in " + ", ".join(f"{run.vm.boot_seconds:.1f} s" for run in self.runs))

    def report(self, data: dict) -> pytest.TestReport:
        report = self.config.hook.pytest_report_from_serializable(config=self.config, data=data)
        if isinstance(report.longrepr, list):  # where and why a test was skipped; JSON has no tuples
            report.longrepr = tuple(report.longrepr)
        return report

    def pytest_unconfigure(self) -> None:
        for run in self.runs or []:
            run.stop()


class VmRun:
    """Some tests, in their order, in a VM of their own, or in namespaces in its place."""

    def __init__(self, config: pytest.Config, items: list[pytest.Item], runs: list[VmRun], where: str = VM):
        """runs: this one and those beside it."""
        self.config = config
        self.left = items  # that nobody has asked for yet
        self.runs = runs
        self.cluster: CephCluster | None = None
        self.vm: StorageVm | StorageNamespaces | None = None
        self.where = where
        self.pytest_id = 0
        self.reports = None
        self.broken = ""  # why no VM can run any of them

    def has(self, item: pytest.Item) -> bool:
        return item in self.left

    def start(self) -> None:
        self.launch()
        self.begin()

    def launch(self) -> None:
        """Begin to boot the VM."""
        told = self.start_cluster() if any(item.get_closest_marker("ceph") for item in self.left) else {}
        within = self.cluster.network if self.cluster else None
        made = StorageVm(memory_mib=MEMORY_MIB, disks=DISKS, within=within) if self.where == VM else StorageNamespaces()
        made.launch()
        self.vm = made
        (made.share / CLUSTER).write_text(json.dumps(told))

    def begin(self) -> None:
        """Begin with the tests that are left, once it has booted."""
        self.vm.wait_ready()
        # No plugin is loaded by itself: to look for them takes an emulated processor several seconds.
        command = ["env", f"{INSIDE}={self.where}", "PYTEST_DISABLE_PLUGIN_AUTOLOAD=1",
                   *(f"{name}={os.environ[name]}" for name in PASSED_ON if name in os.environ),
                   "/usr/bin/python3", "-m", "pytest", "-p", "no:cacheprovider", "-q",
                   f"--rootdir={self.config.rootpath}", *map(argument_of, self.left)]
        folder = self.config.invocation_params.dir
        shell = f"cd {shlex.quote(str(folder))} && {shlex.join(command)} >{SHARE}/{LOG} 2>&1"
        (self.vm.share / REPORTS).touch()
        self.reports = open(self.vm.share / REPORTS, encoding="utf-8")
        self.pytest_id = self.vm.send(shell, timeout=24 * 3600)

    def start_cluster(self) -> dict:
        """What the tests inside are told: how to reach it, or why there is none."""
        if reason := why_impossible():
            return {"impossible": reason}
        made = CephCluster(subnet=CLUSTER_SUBNET)
        try:
            made.open()
            self.cluster = made
            return {"monitors": made.monitors, "conf": str(made.conf), "pool": made.pool, "user": USER, "key": made.user(USER)}
        except NamespaceError as error:
            made.close()
            raise StorageVmError(f"no Ceph cluster for the storage VM: {error}") from error

    def reports_of(self, item: pytest.Item):
        """The reports of one test, as they come. On StorageVmError the VM is gone, and the next test gets a new one."""
        try:
            if self.broken:
                raise StorageVmError(f"not run: {self.broken}")
            if self.vm is None:
                self.start()
            yield from self.received(item)
        except StorageVmError:
            self.stop()
            raise
        finally:
            self.left.remove(item)

    def received(self, item: pytest.Item):
        deadline, nudge = time.monotonic() + TEST_LIMIT, time.monotonic() + NUDGE
        line, ended = "", None
        while True:
            line += self.reports.readline()
            if line.endswith("\n"):
                message = json.loads(line)
                line = ""
                if message.get("finished") == item.nodeid:
                    return
                if "report" in message:
                    yield message["report"]
            elif ended:
                log = (self.vm.share / LOG).read_text(errors="replace")
                if self.reports.tell() == 0:
                    self.broken = "pytest does not start in the storage VM"
                raise StorageVmError(f"pytest in the storage VM ended with status {ended.status}:\n{log}")
            else:
                ended = self.vm.answer(self.pytest_id, 0.05)  # and then look once more for what it wrote last
            if time.monotonic() > nudge:
                for run in self.runs:  # the others' tests go on, too, while nobody asks for their reports
                    run.nudge()
                nudge = time.monotonic() + NUDGE
            if time.monotonic() > deadline:
                shown = self.vm.run(WHEN_STUCK, 30)
                raise StorageVmError(f"the test did not end within {TEST_LIMIT} s:\n{shown.stdout}"
                                     f"{self.vm.last_words()}")

    def nudge(self) -> None:
        with contextlib.suppress(StorageVmError):  # one that has ended says so when its tests are asked for
            if self.vm and self.where == VM:
                self.vm.nudge()

    def stop(self) -> None:
        if self.reports:
            self.reports.close()
            self.reports = None
        if self.vm:
            self.vm.stop()
            self.vm = None
        if self.cluster:
            self.cluster.close()
            self.cluster = None


def shares_of(items: list[pytest.Item]) -> list[list[pytest.Item]]:
    """The tests of each VM, whole files together: what a file's fixtures made for all of its tests is made once."""
    files: dict[pathlib.Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    shares: list[list[pytest.Item]] = [[] for _ in range(min(VMS, len(files)))]
    taken = [0.0] * len(shares)
    for file in sorted(files.values(), key=seconds_of, reverse=True):
        least = taken.index(min(taken))
        shares[least].extend(file)
        taken[least] += seconds_of(file)
    return [[item for item in items if item in share] for share in shares]


def seconds_of(items: list[pytest.Item]) -> float:
    """What the tests of a file take, about: nothing but the balance of the VMs depends on it."""
    return len(items) * SECONDS.get(items[0].path.name, SECONDS_OF_OTHERS)


def wants_vm(item: pytest.Item) -> bool:
    return HERE in item.path.parents and not item.get_closest_marker("on_host")


def argument_of(item: pytest.Item) -> str:
    return f"{item.path}::{item.nodeid.split('::', 1)[1]}"


def failed(item: pytest.Item, text: str) -> pytest.TestReport:
    return pytest.TestReport(item.nodeid, item.location, dict.fromkeys(item.keywords, 1), "failed", text, "call")


class VmSide:
    def __init__(self, config: pytest.Config):
        self.config = config
        self.kernel_log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)

    def pytest_runtest_logstart(self) -> None:
        os.lseek(self.kernel_log, 0, os.SEEK_END)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self):
        """What the kernel said during a test that failed belongs to its report."""
        report = (yield).get_result()
        if report.failed and (messages := self.kernel_messages()):
            report.sections.append(("Kernel log", messages))

    def kernel_messages(self) -> str:
        lines = []
        while True:
            try:
                record = os.read(self.kernel_log, 8192).decode(errors="replace")
            except BrokenPipeError:  # some were lost, which is no reason not to show the others
                continue
            except BlockingIOError:
                return "\n".join(lines)
            lines.append(record.partition(";")[2].partition("\n")[0])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.say({"report": self.config.hook.pytest_report_to_serializable(config=self.config, report=report)})

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self.say({"finished": nodeid})

    @staticmethod
    def say(message: dict) -> None:
        with open(SHARE / REPORTS, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(message) + "\n")
