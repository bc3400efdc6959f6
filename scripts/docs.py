"""Make the pages that follow from the code: docs/methods.md, the figures of the README, the report's screenshot.

python scripts/docs.py          write them (the screenshot needs runs/demo, which `make demo` makes, and Chromium)
python scripts/docs.py --check  say which text differs, write nothing
"""

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import secateur

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- figures: written by scripts/docs.py -->", "<!-- end of figures -->"


def first_line(cls):
    return cls.__doc__.strip().splitlines()[0].replace("|", "\\|")


def methods_page():
    lines = ["# Methods, criteria, allocators", "", "Written by `make docs` from the registries.", ""]
    lines += ["| method | paper | works while training | what it does |", "|---|---|---|---|"]
    for name, cls in secateur.methods().items():
        lines.append(f"| `{name}` | {cls.paper} | {'yes' if cls.trains else 'no'} | {first_line(cls)} |")
    lines += ["", "| criterion | needs | one scale across groups | score of a unit |", "|---|---|---|---|"]
    for name, cls in secateur.criteria().items():
        needs = ", ".join(sorted(cls.needs)) or "nothing"
        lines.append(f"| `{name}` | {needs} | {'yes' if cls.comparable else 'no'} | {first_line(cls)} |")
    lines += ["", "| criterion of single weights | needs | score of a weight |", "|---|---|---|"]
    for name, cls in secateur.weight_criteria().items():
        lines.append(f"| `{name}` | {', '.join(sorted(cls.needs)) or 'nothing'} | {first_line(cls)} |")
    lines += ["", "| allocator | what it does |", "|---|---|"]
    for name, cls in secateur.allocators().items():
        lines.append(f"| `{name}` | {first_line(cls)} |")
    return "\n".join(lines) + "\n"


def percent(spread):
    """A mean and its spread over seeds, both fractions, in percent."""
    return f"{100 * spread['mean']:.2f}" + (f" ± {100 * spread['sd']:.2f}" if spread["sd"] is not None else "")


def rows():
    """One line of the README's table for each committed result: ours, then the peer's."""
    for path in sorted((ROOT / "recipes" / "results").glob("cifar10_half_*.json")):
        for what, summary in json.loads(path.read_text()).items():
            scope, repair = what.split(", ")
            for line in summary["lines"]:
                after, kept = line["cells"][0]["accuracy"], line["kept"]["macs"]["mean"]
                how = f"`{line['method']}`, {scope}, repair `{repair}`"
                yield line["model"], how, kept, line["accuracy_at_cut"], after
    for path in sorted((ROOT / "benchmarks" / "results").glob("peer_*.json")):
        stored = json.loads(path.read_text())
        at_cut, after = ([r[f] for r in stored["rows"]] for f in ("at_cut", "accuracy"))
        name = f"{stored['peer']}, group L2, inner"
        yield path.stem.removeprefix("peer_"), name, stored["rows"][0]["macs_kept"], spread(at_cut), spread(after)


def spread(values):
    return {"n": len(values), "mean": statistics.mean(values), "sd": statistics.stdev(values) if values[1:] else None}


def figures():
    """The README's table, from the committed results of the recipe and of the benchmark."""
    lines = [
        BEGIN,
        "",
        "Pretrained CIFAR-10 networks cut to at most 50 % of their MACs: top-1 accuracy in percent on the 9,979 test",
        "images of the data at hand (whole: ResNet-20 91.73, ResNet-56 93.39), mean ± standard deviation over n seeds,",
        "before any fine-tuning and after one epoch (SGD, one-cycle to 0.02, batch 128, crop and flip). *Inner*: the",
        "convolutions inside the blocks; *all*: trunk and padded shortcuts too. 2 CPU cores, torch 2.13.",
        "Ours: `python recipes/cifar10_half.py`; the peer: `make bench`, fine-tuned by the same loop.",
        "At equal fractions we are not above the peer after an epoch: `per_macs` makes the difference, and was tuned",
        "(docs/log.md says on what). Rows of the recipe that are not here were not run.",
        "",
        "| network | how | MACs kept | at the cut | after one epoch | n |",
        "|---|---|---|---|---|---|",
    ]
    for model, how, kept, at_cut, after in rows():
        lines.append(f"| {model} | {how} | {100 * kept:.1f} % | {percent(at_cut)} | {percent(after)} | {after['n']} |")
    lines += ["", END]
    return "\n".join(lines)


def with_figures(text):
    head, _, rest = text.partition(BEGIN)
    return head + figures() + rest.partition(END)[2]


def pages():
    readme = ROOT / "README.md"
    return {ROOT / "docs" / "methods.md": methods_page(), readme: with_figures(readme.read_text())}


def screenshot():
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    report = ROOT / "runs" / "demo" / "report.html"
    if browser is None or not report.exists():
        raise SystemExit("no screenshot: it needs `make demo` first, and Chromium (Debian: apt-get install chromium)")
    out = ROOT / "docs" / "report.png"
    with tempfile.TemporaryDirectory() as profile:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--hide-scrollbars"]
        where = [f"--user-data-dir={profile}", "--window-size=1100,1500", f"--screenshot={out}", report.as_uri()]
        subprocess.run([browser, *flags, *where], check=True, capture_output=True)
    print(f"wrote {out.relative_to(ROOT)}")


def main():
    stale = {path: text for path, text in pages().items() if not path.exists() or path.read_text() != text}
    if "--check" in sys.argv:
        raise SystemExit("\n".join(f"{p.relative_to(ROOT)} is out of date; run `make docs`" for p in stale) or 0)
    for path, text in stale.items():
        path.write_text(text)
        print(f"wrote {path.relative_to(ROOT)}")
    screenshot()


if __name__ == "__main__":
    main()
