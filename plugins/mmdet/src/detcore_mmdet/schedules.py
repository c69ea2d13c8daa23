"""Learning rates by their names in MMEngine and MMDetection 3.x: core's schedules, which multiply as theirs do.

There a part of a schedule that has N steps ends after N - 1: its last step has the last factor. Here the step after the
last one has it. So lengths in steps are one less; in epochs this is a step among thousands.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detcore.foreign import Foreign

COMMON = ("verbose", "last_step", "convert_to_iter_based")


def translated(tables: Sequence[Foreign], rate: float | None, epochs: float | None, steps: int | None) -> list[Any]:
    """The schedules of a list.

    Args:
        tables: Theirs.
        rate: The optimizer's learning rate, which floors are parts of.
        epochs: How long training is; or
        steps: how many steps.
    """
    given: dict[str, Any] = {"rate": rate, "epochs": epochs, "steps": steps}
    found: list[Any] = []
    for table in tables:
        part = table.translated(**given)
        table.read |= given.keys()
        found += part["schedules"] if part else []
    return found


def linear(table: Foreign) -> Any:
    """LinearLR: up to the whole rate, or down from it."""
    begin, end, unit = _span(table)
    start, stop = table.get("start_factor", 1 / 3), table.get("end_factor", 1.0)
    if start == 1.0 and stop < 1.0:
        _each_step(table)
        return _list({"type": "Poly", "end_factor": stop, **_part(begin, end, unit)})
    if stop != 1.0 or begin or end is None:
        table.lose("start_factor", "a straight line begins with training and ends at the whole rate, or begins there")
        return None
    _each_step(table)
    length = {"steps": max(int(end) - 1, 1)} if unit == "steps" else {"epochs": end}
    return _list({"type": "LinearWarmup", **length, "start_factor": start})


def quadratic(table: Foreign) -> Any:
    """QuadraticWarmupLR: two straight lines multiply to a parabola."""
    begin, end, unit = _span(table)
    if begin or end is None:
        table.lose("begin", "a warmup begins with training")
        return None
    _each_step(table)
    if unit == "steps":
        line = {"type": "LinearWarmup", "steps": max(int(end) - 1, 1), "start_factor": 1 / end}
    else:
        line = {"type": "LinearWarmup", "epochs": end, "start_factor": 0.0}
    return _list(line, dict(line))


def multi_step(table: Foreign) -> Any:
    """MultiStepLR."""
    begin, end, unit = _span(table)
    marks = [mark + begin for mark in table.get("milestones", []) if end is None or mark + begin < end]
    gamma = table.get("gamma", 0.1)
    return _list({"type": "MultiStep", unit: marks, **({} if gamma == 0.1 else {"gamma": gamma})}) if marks else _list()


def step(table: Foreign) -> Any:
    """StepLR: milestones at equal distances, as far as training goes."""
    begin, end, unit = _span(table)
    size, gamma = table.get("step_size"), table.get("gamma", 0.1)
    last = end if end is not None else table.get(unit)
    table.get("epochs"), table.get("steps")
    marks = [*range(int(begin) + size, int(last or begin), size)]
    return _list({"type": "MultiStep", unit: marks, **({} if gamma == 0.1 else {"gamma": gamma})}) if marks else _list()


def cosine(table: Foreign) -> Any:
    """CosineAnnealingLR. Where its half period is longer than its part, it goes on to the period's end here."""
    begin, end, unit = _span(table)
    period = table.get("T_max")
    length = period if period is not None else None if end is None else end - begin
    stop = None if length is None else begin + length
    if stop is not None and end is not None and stop < end and end != _length(table, unit):
        table.note("T_max", f"the rate does not rise again after {stop:g} {unit}")
    elif stop is not None and end is not None and stop > end:
        table.note("T_max", f"it ends at {end:g} {unit} there, and here at {stop:g}, where the cosine does")
    _each_step(table)
    return _list({"type": "Cosine", **_part(begin, stop, unit, _length(table, unit)), **_floor(table)})


def poly(table: Foreign) -> Any:
    """PolyLR."""
    begin, end, unit = _span(table)
    _each_step(table)
    power = table.get("power", 1)
    keys = {} if power == 1 else {"power": float(power)}
    return _list({"type": "Poly", **keys, **_part(begin, end, unit, _length(table, unit)), **_floor(table)})


def constant(table: Foreign) -> Any:
    """ConstantLR: a factor for a while; 1 changes nothing."""
    begin, end, unit = _span(table)
    factor = table.get("factor", 1 / 3)
    if factor == 1:
        return _list()
    stop = None if end is None else end - 1 if unit == "steps" else end
    return _list({"type": "Constant", "factor": factor, **_part(begin, stop, unit)})


def one_cycle(table: Foreign) -> Any:
    """OneCycleLR. The rate that it rises to is the optimizer's here."""
    begin, end, unit = _span(table)
    rate, most = table.get("rate"), table.get("eta_max")
    if rate != most:
        table.note("eta_max", f"the factors are of the optimizer's rate here: set optimizer.lr = {most}")
    table.get("total_steps")
    same = {name: name for name in ("pct_start", "div_factor", "final_div_factor", "three_phase")}
    anneal = table.get("anneal_strategy", "cos")
    keys = {**table.keep(**same), **({} if anneal == "cos" else {"anneal": anneal})}
    return _list({"type": "OneCycle", **keys, **_part(begin, end, unit, _length(table, unit))})


def _list(*schedules: dict[str, Any]) -> dict[str, Any]:
    return {"schedules": [*schedules]}


def _span(table: Foreign) -> tuple[float, float | None, str]:
    """Begin, end and unit of a part. Keys that all have are read."""
    for key in (*COMMON, "rate", "epochs", "steps"):
        table.get(key)
    end = table.get("end")
    unit = "epochs" if table.get("by_epoch", True) else "steps"
    return table.get("begin", 0), None if end is None or end >= 10**9 else end, unit


def _length(table: Foreign, unit: str) -> float | None:
    """How long training is."""
    value: float | None = table.get(unit)
    return value


def _part(begin: float, end: float | None, unit: str, whole: float | None = None) -> dict[str, Any]:
    """Keys of a part of the run; what is usual is left out."""
    keys: dict[str, Any] = {}
    if begin:
        keys["begin"] = begin
    if end is not None and end != whole:
        keys["end"] = end
    return {**keys, "unit": "steps"} if unit == "steps" and keys else keys


def _floor(table: Foreign) -> dict[str, Any]:
    """The factor at the end."""
    ratio, floor, rate = table.get("eta_min_ratio"), table.get("eta_min"), table.get("rate")
    if ratio is None and floor:
        if not rate:
            table.lose("eta_min", "the optimizer names no rate that it is a part of")
            return {}
        ratio = round(floor / rate, 12)
    return {"end_factor": ratio} if ratio else {}


def _each_step(table: Foreign) -> None:
    if table.get("by_epoch", True) and not table.get("convert_to_iter_based", False):
        table.note("by_epoch", "the rate changes with every step here, not once an epoch")


TRANSLATIONS = {
    "LinearLR": linear,
    "QuadraticWarmupLR": quadratic,
    "MultiStepLR": multi_step,
    "StepLR": step,
    "CosineAnnealingLR": cosine,
    "PolyLR": poly,
    "ConstantLR": constant,
    "OneCycleLR": one_cycle,
}
