"""The page of a sensitivity study: a small panel a group, all on one axis, as one self-contained HTML file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ..cost.cost import short
from .curves import Curve, axis, panel
from .measured import render
from .pages import replace

Found = Mapping[str, Any]
TIMES = {"accuracy": 100.0}  # shown in percent
UNITS = {"accuracy": " %"}


def write_sensitivity(found: Found, path: str | os.PathLike[str]) -> Path:
    """Write the page of what `secateur sensitivity` stored as JSON and return its path; one already there is replaced.

    Raises `CheckpointError` where the file cannot be written.
    """
    target = Path(path)
    replace(target, page(found))
    return target


def page(found: Found) -> str:
    """The page as HTML text; the metric that decides comes first."""
    first = found["metric"]
    return render(
        "sensitivity.html.j2",
        found,
        title=f"{found['model']}: sensitivity of its groups",
        facts=_facts(found),
        reading=reading(found),
        metrics=[_metric(found, m) for m in (first, *(m for m in found["dense"] if m != first))],
        rule=rule(found),
        macs=[short(found[when]["macs"]).strip() for when in ("before", "after")],
    )


def _facts(found: Found) -> dict[str, Any]:
    return {
        "Model": found["model"],
        "Weights": found["weights"] or "random",
        "Data": found["data"],
        "Images it is measured on": f"{found['images']}, of the training set; the criterion scored with the same",
        "Criterion": found["criterion"],
        "Seed": found["seed"],
    }


def rule(found: Found) -> str:
    """How the ratios to keep were chosen."""
    tolerated = "tolerated loss of" if found["metric"] == "accuracy" else "tolerated rise of"
    if found["budget"]:
        return f"those of the least {tolerated} {found['metric']} that meets {found['budget']}"
    said = f"{found['max_drop']:g}" if found["metric"] != "accuracy" else f"{100 * found['max_drop']:g} %"
    return f"the smallest from which on none exceeds a {tolerated} {found['metric']} of {said}"


def reading(found: Found) -> list[str]:
    """What the numbers say, in sentences."""
    metric = found["metric"]
    sign = 1 if metric == "loss" else -1
    half = min(range(len(found["ratios"])), key=lambda i: abs(found["ratios"][i] - 0.5))
    drops = {g["group"]: sign * (g["values"][metric][half] - found["dense"][metric]) for g in found["groups"]}
    worst, best = max(drops, key=lambda g: drops[g]), min(drops, key=lambda g: drops[g])
    ratio = f"{100 * found['ratios'][half]:g} %"
    if len(drops) == 1:
        return [f"At {ratio} kept, {worst} changes {_said(drops[worst] * sign, metric)}."]
    return [
        f"At {ratio} kept, {worst} is the most sensitive group: {_said(drops[worst] * sign, metric)}; "
        f"the least is {best}: {_said(drops[best] * sign, metric)}."
    ]


def _said(change: float, metric: str) -> str:
    if metric == "accuracy":
        return f"accuracy {100 * change:+.1f} points"
    return f"{metric} {change:+.3g}"


def _metric(found: Found, metric: str) -> dict[str, Any]:
    """The panels of one metric, and its table."""
    times, unit = TIMES.get(metric, 1.0), UNITS.get(metric, "")
    dense, ratios = times * found["dense"][metric], tuple(found["ratios"])
    chosen = metric == found["metric"]
    curves = [
        Curve(g["group"], ratios, tuple(times * v for v in g["values"][metric]), g["keep"] if chosen else None)
        for g in found["groups"]
    ]
    scale = axis(curves, dense)
    digits = 1 if metric == "accuracy" else 3
    return {
        "name": metric,
        "unit": unit,
        "dense": f"{dense:.{digits}f}{unit}",
        "panels": [
            (
                c.group,
                g["units"],
                Markup(panel(c, dense, scale, label=f"{metric} of {c.group} by units kept", unit=unit)),
            )
            for c, g in zip(curves, found["groups"], strict=True)
        ],
        "rows": [(g, [f"{v:.{digits}f}" for v in c.values]) for c, g in zip(curves, found["groups"], strict=True)],
    }
