# SPDX-License-Identifier: GPL-2.0-only
"""A review of a series as JUnit's XML: a suite per architecture, a case per patch."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from vmaplab.report.series import command_line, commands, place, word_of
from vmaplab.series.found import Reviewed

_NO_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd]")


def as_junit(found: Reviewed) -> str:
    """The text of the file; a failure is what a judge calls wrong, or a build that fails, and is new."""
    suites = ET.Element("testsuites", name=_text(found.series.title))
    for arch in found.arches:
        cases = []
        for number, step in enumerate(found.steps[1:], start=1):
            assert step.patch is not None
            name = f"{place(found, number)} {step.patch.title}"
            case = ET.Element("testcase", classname=f"vmaplab.{arch}", name=_text(name))
            cell = found.cells.get((number, arch))
            wrong = [it for it in found.remarks if it.is_wrong and it.first == number and arch in it.arches]
            if cell is None:
                ET.SubElement(case, "skipped", message="not reached")
            elif step.left_out and not step.files:
                ET.SubElement(case, "skipped", message=_text(f"not built without --trust: {', '.join(step.left_out)}"))
            for remark in wrong:
                failure = ET.SubElement(case, "failure", type=remark.kind, message=_text(remark.headline))
                failure.text = _text("\n".join(command_line(words) for words in commands(remark)))
            ET.SubElement(case, "system-out").text = _text(word_of(found, number, arch))
            cases.append(case)
        if found.refused and found.refused.patch:
            case = ET.Element("testcase", classname=f"vmaplab.{arch}", name=_text(found.refused.patch.subject))
            ET.SubElement(case, "error", type="apply", message=_text(found.refused.error))
            cases.append(case)
        count = {
            kind: str(sum(case.find(kind) is not None for case in cases)) for kind in ("failure", "error", "skipped")
        }
        suite = ET.SubElement(
            suites,
            "testsuite",
            name=arch,
            tests=str(len(cases)),
            failures=count["failure"],
            errors=count["error"],
            skipped=count["skipped"],
        )
        suite.extend(cases)
    ET.indent(suites)
    return ET.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _text(text: str) -> str:
    return _NO_XML.sub("?", text)
