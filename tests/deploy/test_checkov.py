"""checkov finds what deploy/checkov.yaml says is meant so, and nothing else."""

from __future__ import annotations

import json
from typing import Any

from deploy_files import DEPLOY, documents
from linters import lint


def test_checkov_finds_what_is_meant_so_and_nothing_else() -> None:
    (config,) = documents(DEPLOY / "checkov.yaml")
    assert config["skip-download"] is True, "it would ask its maker for rules"
    said = lint(
        "checkov",
        "--directory",
        DEPLOY,
        "--skip-download",
        "--compact",
        "--quiet",
        "--soft-fail",
        "--output",
        "json",
        "--framework",
        *config["framework"],
    )  # fmt: skip -- names with their values
    assert said.returncode == 0, said.stderr
    reports: list[dict[str, Any]] = json.loads(said.stdout)
    assert {report["check_type"] for report in reports} == set(config["framework"])
    found: dict[str, list[str]] = {}
    for report in reports:
        assert report["summary"]["passed"] > 20, report["check_type"]
        assert report["summary"]["parsing_errors"] == 0, report["check_type"]
        for failed in report["results"]["failed_checks"]:
            found.setdefault(failed["check_id"], []).append(f"{failed['resource']}: {failed['check_name']}")
    meant = set(config["skip-check"])
    assert {name: where for name, where in found.items() if name not in meant} == {}
    assert meant - set(found) == set(), "these stand in checkov.yaml for nothing"
