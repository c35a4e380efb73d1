"""The folder that is published to Azure Functions has the app, with both triggers, and bounds."""

from __future__ import annotations

import importlib.util
import json

from deploy_files import DEPLOY

FOLDER = DEPLOY / "azure" / "functions"


def test_the_app_has_both_triggers() -> None:
    spec = importlib.util.spec_from_file_location("function_app", FOLDER / "function_app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = {function.get_function_name(): function.get_trigger().type for function in module.app.get_functions()}
    assert found == {"event_grid": "eventGridTrigger", "queue": "queueTrigger"}


def test_runs_and_tries_are_bounded() -> None:
    host = json.loads((FOLDER / "host.json").read_text())
    assert host["functionTimeout"] == "00:05:00"
    assert host["extensions"]["queues"]["maxDequeueCount"] == 5
