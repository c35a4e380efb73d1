"""`pixelmill triggers` without a service, and what `doctor` says of a rules file."""

from __future__ import annotations

import json
from pathlib import Path

from cli_tools import Cli

RULES = (
    '[[rules]]\nname = "thumbs"\nwatch = "inbox/"\npipeline = "preset:thumbnail"\noutput = "out/{stem}-{width}.{ext}"\n'
)
EVENT = Path(__file__).parents[1] / "triggers" / "events" / "s3-put.json"


def test_a_rules_file_is_checked_against_the_settings(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text(RULES)
    refused = cli("triggers", "check", file)
    assert refused.returncode == 2
    assert b"--source-root" in refused.stderr
    good = cli("triggers", "check", file, "--set", f"source_roots={tmp_path}", "--json")
    assert good.returncode == 0, good.stderr
    (rule,) = json.loads(good.stdout)["rules"]
    assert rule["watch"] == (tmp_path / "inbox").as_uri() + "/"
    table = cli("triggers", "check", file, "--set", f"source_roots={tmp_path}")
    assert b"thumbs" in table.stdout
    assert b"no loops" in table.stderr
    file.write_text(RULES.replace("out/", "inbox/"))
    looped = cli("triggers", "check", file, "--set", f"source_roots={tmp_path}")
    assert looped.returncode == 2
    assert "thumbs → thumbs" in looped.stderr.decode()
    doctor = cli("doctor", "--set", f"triggers={file}", "--json")
    found = {record["what"]: record for record in map(json.loads, doctor.stdout.splitlines())}
    assert found["triggers"]["verdict"] == "bad"
    assert "thumbs → thumbs" in found["triggers"]["found"]


def test_a_document_is_tried_with_a_rules_file_alone(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(
        "rules:\n- name: gray\n  watch: s3://photos-in/uploads/\n  pipeline: grayscale\n  output: s3://photos-out/\n"
    )
    done = cli("triggers", "test", "-", "--rules", file, stdin=EVENT.read_bytes())
    assert done.returncode == 0, done.stderr
    assert "→ s3://photos-out/harbor.jpg" in done.stdout.decode()
    (tried,) = json.loads(cli("triggers", "test", EVENT, "--rules", file, "--json").stdout)["events"]
    assert tried["rules"][0]["matches"] is True
    assert cli("triggers", "test", "-", "--rules", file, stdin=b"{}").returncode == 1
    assert cli("triggers", "test", "-", "--rules", file, stdin=b"{").returncode == 2
