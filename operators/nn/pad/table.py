"""A report as text: what a reader of ISO/IEC 30107-3 looks for, one figure a line."""

from __future__ import annotations

from typing import Any

from operators.nn.pad.report import ACER, Report

NAME_WIDTH = 44


def text_table(report: Report) -> str:
    """The report as lines of text, at most about 100 characters wide, a newline at the end."""
    lines = [report["standard"], f"Presentation = one {report['unit']}; {report['orientation']}."]
    lines += _sizes(report) + _threshold(report) + _free(report) + _oracle(report)
    boot = report["bootstrap"]
    level = f"{100 * boot['level']:g} %"
    lines += [
        "",
        f"[..] {level} bootstrap over identities, {boot['draws']} draws, seed {boot['seed']}",
    ]
    if boot["missing"]:
        lines.append(boot["missing"])
    lines += [f"Note: {note}" for note in report["notes"]]
    return "\n".join(lines) + "\n"


def _sizes(report: Report) -> list[str]:
    sizes, silent = report["presentations"], report["non_response"]
    rows = [("Bona fide presentations", sizes["bona fide"], silent["BPNRR"], "BPNRR")]
    for name, size in sizes["attacks"].items():
        rows.append((f"Attack presentations, species {name}", size, silent["APNRR"][name], "APNRR"))
    lines = ["", f"Identities: {sizes['identities']}"]
    for name, size, share, what in rows:
        if share is not None:
            text = f"{size['n']} of {size['identities']} people, {what} {_percent(share['value'])}"
            lines.append(_line(name, text))
    return lines


def _threshold(report: Report) -> list[str]:
    threshold, figures = report["threshold"], report["at_threshold"]
    rule = f"{threshold['rule']}={threshold['target']:g}" if threshold["target"] else "D-EER"
    head = (
        f"At threshold {threshold['value']:.6g}, fixed by {rule} on {threshold['set_on']} "
        f"({threshold['n_live']} bona fide, {threshold['n_attack']} attacks used)"
    )
    lines = ["", head]
    lines += [
        _line(f"APCER, species {name}", _rate(rate)) for name, rate in figures["APCER"].items()
    ]
    worst = figures["APCER max"]
    lines.append(_line(f"APCER, maximum ({worst['species']})", _figure(worst)))
    lines.append(_line("BPCER", _rate(figures["BPCER"])))
    lines.append(_line("HTER", _figure(figures["HTER"])))
    lines.append(_line(ACER, _figure(figures[ACER])))
    return lines


def _free(report: Report) -> list[str]:
    figures = {name: figure for name, figure in report["threshold_free"].items() if name != "note"}
    lines = ["", f"Threshold-free ({report['threshold_free']['note']})"]
    lines.append(_line("AUC", _figure(figures.pop("AUC"), percent=False)))
    return lines + [_line(name, _figure(figure)) for name, figure in figures.items()]


def _oracle(report: Report) -> list[str]:
    oracle = report["oracle"]
    return ["", oracle["label"].capitalize(), _line("HTER (oracle)", _figure(oracle["HTER"]))]


def _line(name: str, text: str) -> str:
    return f"  {name:<{NAME_WIDTH}} {text}"


def _percent(value: float) -> str:
    return f"{100 * value:.2f} %"


def _figure(figure: dict[str, Any], percent: bool = True) -> str:
    def show(value: float) -> str:
        return _percent(value) if percent else f"{value:.4f}"

    if figure["interval"] is None:
        return show(figure["value"])
    low, high = figure["interval"]
    return f"{show(figure['value'])} [{show(low)}, {show(high)}]"


def _rate(figure: dict[str, Any]) -> str:
    text = f"{_figure(figure)}, {figure['errors']} of {figure['n']}"
    if "upper_95" not in figure:
        return text
    rows, people = _percent(figure["upper_95"]), _percent(figure["upper_95_identities"])
    return f"{text}; at most {rows} (3/n), {people} (3/people)"
