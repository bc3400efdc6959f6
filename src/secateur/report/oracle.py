"""The page of an oracle study: each criterion's scores against what the loss did, as one self-contained HTML file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from markupsafe import Markup

from ..experiments.correlation import STATISTICS, Estimate
from .measured import render
from .pages import replace
from .scatter import Mark, scatter
from .spread import NONE

Found = Mapping[str, Any]


def write_oracle(found: Found, path: str | os.PathLike[str]) -> Path:
    """Write the page of what `secateur oracle` stored as JSON and return its path; one already there is replaced.

    Raises `CheckpointError` where the file cannot be written.
    """
    target = Path(path)
    replace(target, page(found))
    return target


def page(found: Found) -> str:
    """The page as HTML text."""
    return render(
        "oracle.html.j2",
        found,
        title=f"{found['model']}: criteria against the oracle",
        facts=_facts(found),
        reading=reading(found),
        panels=[_panel(found, i, line) for i, line in enumerate(found["correlations"])],
        rows=[_row(line) for line in found["correlations"]],
        groups=[_group(found, group) for group in found["groups"]],
        total=sum(g["units"] for g in found["groups"]),
        statistics=STATISTICS,
    )


def _facts(found: Found) -> dict[str, Any]:
    return {
        "Model": found["model"],
        "Weights": found["weights"] or "random",
        "Data": found["data"],
        "Images the loss is measured on": f"{found['images']}, of the training set; criteria scored with the same",
        "Seed": found["seed"],
        "Bootstrap resamples": found["resamples"],
    }


def reading(found: Found) -> list[str]:
    """What the numbers say, in sentences."""
    changes = {(u["group"], u["unit"]): u["change"] for u in found["units"]}
    rose, fell = (sum(sign * c > 0 for c in changes.values()) for sign in (1, -1))
    same = len(changes) - rose - fell
    told = f"Without the unit, the loss is higher for {rose}, lower for {fell} and the same for {same}"
    said = [f"{told} of {len(changes)} units."]
    (group, unit), most = max(changes.items(), key=lambda item: abs(item[1]))
    if most:
        said.append(f"The largest change is {most:+.4g}, without unit {unit} of {group}.")
    ranked = [(Estimate(**line["overall"]["spearman"]), line["name"]) for line in found["correlations"]]
    defined = sorted(((e.value, e, name) for e, name in ranked if e.value is not None), key=lambda t: -t[0])
    if defined:
        _, best, name = defined[0]
        said.append(f"The highest rank correlation over all units is that of {name}: {best}.")
    beside = [other for _, e, other in defined[1:] if _overlap(defined[0][1], e)]
    if beside:
        said.append(f"Intervals that overlap with it: {', '.join(beside)}.")
    return said


def _overlap(a: Estimate, b: Estimate) -> bool:
    if a.low is None or b.high is None:
        return True
    return b.high >= a.low


def _panel(found: Found, series: int, line: Mapping[str, Any]) -> dict[str, Any]:
    marks = [
        Mark(
            f"{u['group']}, unit {u['unit']}: score {u['scores'][line['name']]:.3g}, loss {u['change']:+.3g}",
            u["scores"][line["name"]],
            abs(u["change"]),
        )
        for u in found["units"]
    ]
    label = f"Units of {found['model']} by rank of their {line['name']} score and of their loss change"
    svg = scatter(marks, series=series, label=label, upwards="rank by squared loss change")
    overall, within = (Estimate(**line[part]["spearman"]) for part in ("overall", "within"))
    return {"name": line["name"], "overall": overall, "within": within, "picture": Markup(svg)}


def _row(line: Mapping[str, Any]) -> dict[str, Any]:
    parts = {part: {s: Estimate(**line[part][s]) for s in STATISTICS} for part in ("overall", "within")}
    why = dict.fromkeys(e.why for held in parts.values() for e in held.values() if e.why)
    return {"name": line["name"], "groups": line["groups"], "why": "; ".join(why), **parts}


def _group(found: Found, group: Mapping[str, Any]) -> dict[str, Any]:
    changes = [u["change"] for u in found["units"] if u["group"] == group["group"]]
    ends = (min(changes), median(changes), max(changes)) if changes else ()
    return {**group, "changes": [f"{c:+.3g}" for c in ends] or [NONE] * 3}
