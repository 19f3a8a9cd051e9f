# SPDX-License-Identifier: Apache-2.0
"""`aiolos disk-xml --batch`: an answer for each line in its order, whatever becomes of input, output and threads."""

import json
import os
import pty
import subprocess
import threading
import tty

import pytest
from harness import BAD_INPUT, FAILED


def line(serial: str, padding: int = 0, driver: str = "local") -> str:
    info = {"driver_volume_type": driver, "serial": serial, "data": {"device_path": "/dev/x", "unused": "x" * padding}}
    return json.dumps({"connection_info": info, "disk_info": {"bus": "virtio", "dev": "vdb", "type": "disk"}})


# Longer than a pipe holds and than what one thread takes at once, so that the others are started.
LONG = 1_000_000


@pytest.fixture
def batch(aiolos_alone):
    def run(text: str) -> list[dict]:
        shown = aiolos_alone.run("disk-xml", "--config", str(aiolos_alone.config), "--batch", stdin=text).out
        return [json.loads(answer) for answer in shown.splitlines()]

    return run


@pytest.fixture
def start(aiolos_alone):
    def run(**streams) -> subprocess.Popen:
        return subprocess.Popen([str(aiolos_alone.binary), "disk-xml", "--config", str(aiolos_alone.config), "--batch"],
                                stderr=subprocess.PIPE, text=True, **streams)

    return run


def test_each_line_is_answered(batch):
    answers = batch("\n".join([line("a"), line("b", driver="no-such-driver"), line("c"), "{"]) + "\n")
    assert [sorted(answer) for answer in answers] == [["xml"], ["error"], ["xml"], ["error"]]
    assert answers[3]["error"]["where"].startswith("line 4:")


def test_order_is_kept_by_many_threads(batch):
    lines = [line(f"serial-{number}", LONG if number == 7 else 0) for number in range(20_000)]
    lines[15_000] = "{"
    answers = batch("\n".join(lines))
    assert len(answers) == len(lines)
    assert answers[15_000]["error"]["where"].startswith("line 15001:")
    assert all(f"serial-{number}<" in answer["xml"] for number, answer in enumerate(answers) if number != 15_000)


@pytest.mark.parametrize("text", ["", "\n", " \t\r\n\n"])
def test_nothing_asked_is_nothing_answered(batch, text):
    assert batch(text) == []


def test_last_line_needs_no_newline(batch):
    assert batch(f"{line('a')}\n\n{line('b')}") == batch(f"{line('a')}\r\n{line('b')}\n")


def test_line_of_very_many_reads_takes_no_longer_than_its_length_asks_for(batch):
    """A pipe gives 64 KiB at once: searched from their beginning each time, these took minutes."""
    assert "xml" in batch(line("a", padding=128 << 20))[0]


@pytest.mark.parametrize("option", ["--connection", "--disk"])
def test_no_single_volume_beside_it(aiolos_alone, option):
    shown = aiolos_alone.run("disk-xml", "--batch", option, aiolos_alone.write("x.json", {}), expect=BAD_INPUT)
    assert "--batch" in shown.err and option in shown.err


def output_nobody_reads() -> int:
    """A pipe whose write gives EPIPE, where SIGPIPE is ignored: as it is below systemd."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@pytest.mark.parametrize("open_output", [output_nobody_reads, lambda: os.open("/dev/full", os.O_WRONLY)])
def test_answers_that_cannot_be_written_end_it(start, folder, open_output):
    lines = folder / "lines"
    lines.write_text((line("a", LONG) + "\n") * 3 + (line("b") + "\n") * 20_000)
    output = open_output()
    with lines.open(encoding="utf-8") as given:
        running = start(stdin=given, stdout=output, restore_signals=False)  # Python ignores SIGPIPE
    os.close(output)
    told = running.communicate(timeout=60)[1]
    assert running.returncode == FAILED, told
    assert told.count("cannot write the answers") == 1, told


def test_input_that_fails_costs_no_answer_of_what_came_before(start):
    """A terminal's other end reads what was written, and then EIO."""
    given, terminal = pty.openpty()
    tty.setraw(terminal)
    lines = [line("a", LONG), line("b"), line("c", LONG)]

    def write() -> None:
        text = "".join(each + "\n" for each in lines).encode()
        while text:
            text = text[os.write(terminal, text):]
        os.close(terminal)

    running = start(stdin=given, stdout=subprocess.PIPE)
    writer = threading.Thread(target=write)
    writer.start()
    answers, told = running.communicate(timeout=60)
    os.close(given)
    writer.join()
    assert running.returncode == BAD_INPUT, told
    assert "cannot read standard input" in told
    assert len(answers.splitlines()) == len(lines), told


def test_input_that_cannot_be_read(start):
    folder = os.open("/", os.O_RDONLY)
    running = start(stdin=folder, stdout=subprocess.PIPE)
    os.close(folder)
    answers, told = running.communicate(timeout=60)
    assert (running.returncode, answers) == (BAD_INPUT, "")
    assert "cannot read standard input" in told
