"""A page in a real browser without a window, at the width of a telephone: what it draws, how wide it is, what goes wrong."""

import json
import os
import re
import shutil
import subprocess
from html import unescape

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
# the page stands in a frame, since a window of its own can be no narrower than about 500 pixels
FRAME = """<!DOCTYPE html><meta charset="utf-8"><body style="margin:0"><pre id="told"></pre><script>
const frame = document.createElement("iframe"), wrong = [];
frame.style = "border:0;width:%dpx;height:800px";
frame.onload = () => {
  const page = frame.contentDocument, inside = frame.contentWindow, images = [...page.images];
  document.getElementById("told").textContent = JSON.stringify({
    title: page.title, width: inside.innerWidth, scroll: page.documentElement.scrollWidth, wrong: wrong,
    images: images.map((image) => [image.alt, image.complete ? image.naturalWidth : 0, image.getBoundingClientRect().width]),
    headings: [...page.querySelectorAll("h2")].map((each) => each.textContent),
    cut: [...page.querySelectorAll("main *")].filter((each) => !each.closest(".wide, pre")
      && each.getBoundingClientRect().right > inside.innerWidth + 1).map((each) => each.outerHTML.slice(0, 80)),
  });
};
frame.addEventListener("error", (event) => wrong.push(String(event)));
frame.srcdoc = %s;
document.body.append(frame);
</script></body>"""


def browser():
    """Path of a browser, or None."""
    return os.environ.get("CHROME") or next(filter(None, map(shutil.which, NAMES)), None)


def look(html, width, folder):
    """What the page is like in a frame `width` pixels wide; `console` are the browser's own complaints of it."""
    page = folder / "frame.html"
    # "</script>" would end the frame's own script
    page.write_text(FRAME % (width, json.dumps(html).replace("</", "<\\/")), encoding="utf-8")
    command = [
        browser(), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--enable-logging=stderr", "--v=0",
        f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=20000", "--dump-dom", page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    told = re.search(r'<pre id="told">(.*?)</pre>', done.stdout, re.DOTALL)[1]
    return json.loads(unescape(told)) | {"console": [line for line in done.stderr.splitlines() if "CONSOLE" in line]}
