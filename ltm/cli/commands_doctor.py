"""``doctor``: what is wrong with a configuration, in plain words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ltm.cli.commands_base import Command, Run
from ltm.cli.exits import require_success
from ltm.cli.output import Column
from ltm.errors import LTMError

if TYPE_CHECKING:
    from ltm.finding import Finding

_COLUMNS = (Column("check", 18), Column("state", 8), Column("finding"))


@click.command(cls=Command)
@click.pass_obj
def doctor(run: Run) -> None:
    """Tell what is wrong with the configuration, and what to do.

    Looks at settings, drivers, storage and catalog, and makes nothing but probes. The exit status
    is that of the first problem.
    """
    with run.output.progress("examining"):
        findings = _examine(run)
    answer = _answer(findings)
    if answer["success"]:
        run.output.document(answer)
    rows = [(each.check, each.state, each.message) for each in findings]
    run.output.table(_COLUMNS, rows)
    for each in findings:
        if each.remedy is not None:
            run.output.line(f"{each.check}: {each.remedy}", style="bold")
    require_success(answer)


def _examine(run: Run) -> list[Finding]:
    from ltm.doctor import diagnose, explain_settings

    try:
        settings = run.settings()
    except LTMError as error:
        return [explain_settings(error)]
    return diagnose(settings)


def _answer(findings: list[Finding]) -> dict[str, Any]:
    from dataclasses import asdict

    problems = [each for each in findings if each.state == "problem"]
    answer = {"success": not problems, "findings": [asdict(each) for each in findings]}
    if problems:
        names = ", ".join(dict.fromkeys(each.check for each in problems))
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        answer |= {"error": f"{count}: {names}", "error_type": problems[0].error_type}
    return answer
