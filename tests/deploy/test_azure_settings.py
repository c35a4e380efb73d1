"""What Terraform tells the service on Azure is understood: settings, rules, and the queue that tells of uploads."""

from __future__ import annotations

import json
import re
from pathlib import Path

from deploy_files import DEPLOY

from pixelmill.cli.settings import service_config
from pixelmill.config import load
from pixelmill.storage.options import StoreSpec
from pixelmill.triggers.book import parse_rules
from pixelmill.triggers.reach import check_stores
from pixelmill.triggers.rules_file import read_table
from pixelmill.triggers.source_options import read_options

VALUES = {
    "azurerm_storage_queue.uploads.name": "uploads",
    "local.account": "millabc",
    'jsonencode("az://input/${var.input_prefix}")': '"az://input/"',
    "jsonencode(var.pipeline)": '"grayscale/format:jpeg"',
    'jsonencode("az://output/${var.output_name}")': '"az://output/{stem}.{ext}"',
}
TEXT = (DEPLOY / "azure" / "apps.tf").read_text()


def test_the_rule_and_its_source_are_understood(tmp_path: Path) -> None:
    heredoc = re.search(r"rules = <<-EOT\n(.*?)\n\s*EOT\n", TEXT, re.DOTALL)
    assert heredoc is not None
    text = heredoc[1]
    for name, value in VALUES.items():
        text = text.replace(f"${{{name}}}", value)
    assert "${" not in text
    rules = tmp_path / "rules"  # as the secret's volume names it: without an ending
    rules.write_text(text)
    rule_set = parse_rules(read_table(rules))
    options = read_options(rule_set.sources["uploads"])
    host = re.search(r'PIXELMILL_QUEUE_URL\s+= "azure://\$\{local.account\}([a-z.]+)/', TEXT)
    assert host is not None
    assert options["account"] == f"https://millabc{host[1]}"
    check_stores(rule_set, {name: StoreSpec(f"az://{name}", {}) for name in ("input", "output")}, ())


def test_the_stores_of_the_rule_are_settings() -> None:
    assert (
        'stores  = { for name in ["input", "output"] : name => { uri = "az://${name}", account = local.account } }'
        in TEXT
    )
    stores = {name: {"uri": f"az://{name}", "account": "millabc"} for name in ("input", "output")}
    config = service_config(load({}, {"PIXELMILL_STORES": json.dumps(stores)}))
    assert {name: (spec.uri, spec.options["account"]) for name, spec in config.stores.items()} == {
        name: (f"az://{name}", "millabc") for name in stores
    }
