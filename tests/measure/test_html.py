# SPDX-License-Identifier: Apache-2.0
"""The page of `aiolos measure --html` as a browser draws it."""

from __future__ import annotations

import json
import pathlib
import re
import shutil
import struct
import subprocess
import zlib

import pytest

import image
from measure_command import Command

# Colours of the modes' lines (measure/html_report.cc).
LINES = {"threads": (0xe6, 0x9f, 0x00), "native": (0x00, 0x72, 0xb2), "io_uring": (0x00, 0x9e, 0x73)}

# What is drawn, as the browser has laid it out: asked by a script in a copy of the page, for the page itself has none.
LOOK = """<script>addEventListener('load', () => {
  const plots = [...document.querySelectorAll('svg')].map(svg => ({
    title: svg.getAttribute('aria-label'), box: svg.getBoundingClientRect().toJSON(),
    series: [...svg.querySelectorAll('[data-series]')].map(each => ({name: each.dataset.series,
      box: each.getBoundingClientRect().toJSON(), line: each.querySelector('polyline').getTotalLength(),
      colour: getComputedStyle(each.querySelector('polyline')).stroke,
      markers: each.querySelectorAll('.marker').length})),
    texts: [...svg.querySelectorAll('text')].map(each => ({text: each.textContent,
      box: each.getBoundingClientRect().toJSON()}))}));
  const answer = document.createElement('pre');
  answer.id = 'answer';
  answer.textContent = JSON.stringify({plots, width: document.documentElement.scrollWidth, window: innerWidth,
    fetched: performance.getEntriesByType('resource').map(each => each.name)});
  document.body.append(answer);
});</script>"""


@pytest.fixture(scope="module")
def chromium():
    if not (found := shutil.which("chromium")):
        pytest.skip("no chromium here: apt-get install chromium")
    return found


def browse(chromium: str, folder: pathlib.Path, page: pathlib.Path, *arguments: str) -> str:
    done = subprocess.run([chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                           "--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND",
                           f"--user-data-dir={folder}/profile", "--window-size=1200,1600", *arguments, f"file://{page}"],
                          capture_output=True, text=True, timeout=120, env={"HOME": str(folder), "PATH": "/usr/bin:/bin"})
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    images = image.state_folder() / "measure-page"
    images.mkdir(parents=True, exist_ok=True)
    try:
        report = Command(folder).measure("--path", images, "--patterns", "random", "--depths", "1,4,16", "--disks", "1",
                                         "--no-event-loop", "--html", folder / "page.html")
    finally:
        images.rmdir()
    return folder, report


def pixels(file: pathlib.Path) -> list[bytes]:
    """The rows of a PNG as a browser writes it: 8 bits, RGB or RGBA, not interlaced; each pixel three bytes."""
    data = file.read_bytes()
    at, packed, width, step = 8, b"", 0, 3
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at:at + 8])
        body = data[at + 8:at + 8 + length]
        if kind == b"IHDR":
            width, _, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", body)
            assert (depth, interlaced) == (8, 0) and colour in (2, 6)
            step = 3 if colour == 2 else 4
        elif kind == b"IDAT":
            packed += body
        at += 12 + length
    raw, rows, above = zlib.decompress(packed), [], bytes(width * step)
    for start in range(0, len(raw), width * step + 1):
        row = unfiltered(raw[start], bytearray(raw[start + 1:start + 1 + width * step]), above, step)
        rows.append(row if step == 3 else b"".join(row[i:i + 3] for i in range(0, len(row), 4)))
        above = row
    return rows


def unfiltered(kind: int, row: bytearray, above: bytes, step: int) -> bytes:
    """Source: PNG specification, section 9."""
    if kind == 0:
        return bytes(row)
    for i in range(len(row)):
        left = row[i - step] if i >= step else 0
        corner = above[i - step] if i >= step else 0
        if kind == 1:
            guess = left
        elif kind == 2:
            guess = above[i]
        elif kind == 3:
            guess = (left + above[i]) // 2
        else:
            guess = min((left, above[i], corner), key=lambda near: abs(left + above[i] - corner - near))
        row[i] = (row[i] + guess) & 255
    return bytes(row)


def inside(inner: dict, outer: dict) -> bool:
    return (inner["left"] >= outer["left"] - 1 and inner["right"] <= outer["right"] + 1 and
            inner["top"] >= outer["top"] - 1 and inner["bottom"] <= outer["bottom"] + 1)


def overlap(a: dict, b: dict) -> bool:
    return (min(a["right"], b["right"]) - max(a["left"], b["left"]) > 1 and
            min(a["bottom"], b["bottom"]) - max(a["top"], b["top"]) > 4)


def test_every_plot_is_laid_out_with_all_its_points(chromium, measured):
    folder, report = measured
    page = folder / "asked.html"
    page.write_text((folder / "page.html").read_text().replace("</body>", LOOK + "</body>"))
    shown = browse(chromium, folder, page, "--dump-dom")
    answer = re.search(r'<pre id="answer">(.*?)</pre>', shown, re.S).group(1)
    drawn = json.loads(answer.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert drawn["fetched"] == []
    assert drawn["width"] <= drawn["window"], "the page is wider than the window"
    # Two plots for each kind of load: four kinds of images, two of which are read as well.
    assert len(drawn["plots"]) == 2 * (2 + 1 + 2 + 1)
    for plot in drawn["plots"]:
        assert plot["box"]["width"] > 300 and plot["box"]["height"] > 150
        assert {"threads", "native", "io_uring"} <= {series["name"] for series in plot["series"]}
        for series in plot["series"]:
            assert series["markers"] == 3 and series["line"] > 100, (plot["title"], series)
            assert inside(series["box"], plot["box"]), (plot["title"], series)
            if series["name"] in LINES:
                assert series["colour"] == "rgb({}, {}, {})".format(*LINES[series["name"]])
        for i, text in enumerate(plot["texts"]):
            assert inside(text["box"], plot["box"]), (plot["title"], text)
            for other in plot["texts"][i + 1:]:
                assert not overlap(text["box"], other["box"]), (plot["title"], text["text"], other["text"])


def test_every_modes_line_is_seen_on_the_screen(chromium, measured):
    folder, _ = measured
    picture = folder / "page.png"
    browse(chromium, folder, folder / "page.html", f"--screenshot={picture}")
    every = b"".join(pixels(picture))
    seen = {name: 0 for name in LINES}
    for i in range(0, len(every), 3):
        for name, colour in LINES.items():
            seen[name] += every[i:i + 3] == bytes(colour)
    assert min(seen.values()) > 300, seen


def test_it_prints(chromium, measured):
    folder, _ = measured
    paper = folder / "page.pdf"
    browse(chromium, folder, folder / "page.html", f"--print-to-pdf={paper}")
    assert paper.read_bytes().startswith(b"%PDF-") and paper.stat().st_size > 20_000
