"""The report in a real headless browser: no error, every chart drawn, the filters work, nothing wider than the screen."""

import json
import re
import shutil
import subprocess

import pytest

from vegflow.config.report import ReportFacts
from vegflow.report.figures import FIGURES, figures
from vegflow.report.render import load_caveats, render
from vegflow.report.text import natural

from synthetic import CAVEATS, default  # isort: skip

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here")

OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars",
)  # fmt: skip
WATCH = """<script>
window.seen = [];
window.addEventListener("error", (e) => window.seen.push(String(e.message)));
window.addEventListener("unhandledrejection", (e) => window.seen.push(String(e.reason)));
for (const kind of ["error", "warn"]) { const own = console[kind]; console[kind] = (...a) => { window.seen.push(a.join(" ")); own(...a); }; }
</script>"""
PROBE = """<script>
function press(key) { document.activeElement.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true})); }
async function pages(found) {
  const state = async (act) => {
    const arrived = new Promise((done) => window.addEventListener("hashchange", () => setTimeout(done, 20), {once: true}));
    act();
    await arrived;
    const page = document.querySelector(".page:target");
    return {
      hash: location.hash, title: document.title, wide: document.documentElement.scrollWidth,
      shown: [...document.querySelectorAll("main > section, .page")].filter((e) => e.offsetHeight > 0).map((e) => e.id),
      code: page ? [...page.querySelectorAll("pre")].filter((e) => e.offsetHeight > 0).map((e) => e.textContent) : [],
      picks: page ? [...page.querySelectorAll(".program")].filter((e) => e.offsetHeight > 0).every((e) => e.querySelector(".pick")) : null,
    };
  };
  const link = document.querySelector("#tasks tr.task a");
  link.focus();
  found.steps = {
    opened: await state(() => link.click()),
    next: await state(() => press("ArrowRight")),
    back: await state(() => history.back()),
    left: await state(() => press("Escape")),
  };
}
function shown(rows) { return [...rows].filter((row) => row.offsetParent !== null || row.style.display !== "none").length; }
async function probe() {
  for (let i = 0; i < 200 && document.querySelectorAll(".chart[data-drawn]").length < document.querySelectorAll(".chart").length; i++)
    await new Promise((done) => setTimeout(done, 50));
  const found = {errors: window.seen, charts: {}, width: window.innerWidth, wide: document.documentElement.scrollWidth};
  for (const chart of document.querySelectorAll(".chart"))
    found.charts[chart.id] = [chart.dataset.drawn || "", chart.querySelectorAll("svg path").length];
  const claims = document.querySelectorAll("#claims tr[data-verdict]");
  const text = document.getElementById("claim-text");
  text.value = "top3"; text.dispatchEvent(new Event("input"));
  found.claims = [claims.length, [...claims].filter((r) => r.style.display !== "none").length];
  found.fits = [...claims].filter((r) => r.style.display !== "none").every((r) => r.textContent.toLowerCase().includes("top3"));
  const kind = document.querySelector("#tasks .task-kind"), programs = document.querySelectorAll(".program[data-kind]");
  kind.value = "picked"; kind.dispatchEvent(new Event("change"));
  found.programs = [programs.length, [...programs].filter((p) => p.style.display !== "none").length];
  found.picked = [...programs].filter((p) => p.style.display !== "none").every((p) => p.querySelector(".pick"));
  await pages(found);
  const mark = document.createElement("script");
  mark.type = "application/json"; mark.id = "found"; mark.textContent = JSON.stringify(found);
  document.body.append(mark);
}
probe();
</script>"""


def look(page, tmp_path, width):
    """What the browser finds on a page at a width."""
    head, _, tail = page.rpartition("</body>")
    watched = head.replace("<head>", "<head>" + WATCH, 1) + PROBE + "</body>" + tail
    (tmp_path / "page.html").write_text(watched, encoding="utf-8")
    profile = tmp_path / "profile"
    command = [
        CHROMIUM,
        *OPTIONS,
        f"--user-data-dir={profile}",
        f"--window-size={width},900",
        "--virtual-time-budget=20000",
    ]
    done = subprocess.run(
        [*command, "--dump-dom", (tmp_path / "page.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    held = re.search(r'<script type="application/json" id="found">(.*?)</script>', done.stdout, re.DOTALL)
    assert held, done.stderr[-2000:]
    return json.loads(held[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))


@pytest.fixture(scope="module")
def page():
    study, tables = default()
    return render(
        tables, figures(tables, study.facts), study.facts, ReportFacts(title="A made-up study"), load_caveats(CAVEATS)
    )


@pytest.mark.parametrize("width", [1280, 400])
def test_the_report_in_a_browser(page, tmp_path, width):
    found = look(page, tmp_path, width)
    assert found["errors"] == []
    assert set(found["charts"]) == {f"chart-{name}" for name in FIGURES}
    assert all(drawn == "yes" and paths > 5 for drawn, paths in found["charts"].values()), found["charts"]
    assert found["wide"] <= found["width"]
    every, some = found["claims"]
    assert every == default()[1]["claims"].num_rows
    assert 0 < some < every
    assert found["fits"]
    every, some = found["programs"]
    assert 0 < some < every
    assert found["picked"]
    opened, further, back, left = found["steps"].values()
    first, second = sorted({row["task_id"] for row in default()[1]["candidates"].to_pylist()}, key=natural)[:2]
    for step, task in ((opened, first), (further, second), (back, first)):
        assert step["hash"] == f"#task/{task}"
        assert step["shown"] == [f"task/{task}"]
        assert step["title"] == f"{task} · A made-up study"
        assert step["code"]
        assert step["picks"]  # the filter that was set on the page of all tasks
        assert step["wide"] <= found["width"]
    assert back["code"] == opened["code"] != further["code"]
    assert left["hash"] == "#tasks"
    assert left["title"] == "A made-up study"
    assert len(left["shown"]) > 3
    assert not any(name.startswith("task/") for name in left["shown"])
