"""What must hold after a siege (see ``siege.py``): each task ended once in log, state and store, nothing is torn."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from service_process import all_events, all_tasks
from siege import ATTEMPTS, Siege

FINAL = {"succeeded", "failed", "cancelled"}
BAD_REASONS = {"unsupported-format", "corrupt-image"}
LOST_REASONS = {"worker-crashed", "node-lost", "shutting-down", "target-unavailable"}
"""Why an attempt may be lost here: by its place, never by its image."""


def slug(error: Mapping[str, Any]) -> str:
    return str(error["type"]).rpartition("/")[2]


def kind(name: str) -> str:
    """What a task is: ``good``, ``bad`` or ``poison``."""
    return name.partition(".")[0].rpartition("-")[2]


def tasks_of(siege: Siege) -> list[dict[str, Any]]:
    """All tasks of the batch; no name is missing or there twice."""
    tasks = [task for job in siege.jobs for task in all_tasks(siege.hub.url, job)]
    assert sorted(task["name"] for task in tasks) == sorted(name for name, _ in siege.files)
    assert len({task["id"] for task in tasks}) == len(tasks)
    return tasks


def ended_once(siege: Siege, tasks: list[dict[str, Any]], ends: Mapping[str, list[str]]) -> None:
    """In state and in the log; ``ends``: for each kind of task, its ends in the log in their order."""
    logged: dict[str, list[str]] = {task["id"]: [] for task in tasks}
    for job in siege.jobs:
        for event, data in all_events(siege.hub.url, job):
            if event == "task" and data["state"] in FINAL:
                logged[data["id"]].append(data["state"])
    wrong = [(task["name"], logged[task["id"]]) for task in tasks if logged[task["id"]] != ends[kind(task["name"])]]
    assert not wrong, f"ends in the log: {wrong[:5]} of {len(wrong)}"
    wrong = [(task["name"], task["state"]) for task in tasks if task["state"] != ends[kind(task["name"])][-1]]
    assert not wrong, f"states: {wrong[:5]} of {len(wrong)}"


def stored_whole(siege: Siege, tasks: list[dict[str, Any]], expected: Mapping[str, bytes]) -> None:
    """A document for each run that ended, an image for each success; all whole, and nothing else."""
    wanted: dict[str, tuple[str, bytes | None]] = {}  # by name: the state its document tells, or its bytes
    for task in tasks:
        for run in range(task["run"] + 1):
            state = task["state"] if run == task["run"] else "failed"
            key = task["id"] + (f"-r{run}" if run else "")
            wanted[f"{task['job']}/{key}.json"] = (state, None)
            if state == "succeeded":
                wanted[f"{task['job']}/{key}"] = (state, expected[task["name"]])
    (root,) = (siege.hub.data / "objects" / "results").iterdir()  # of one owner
    found = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
    assert sorted(found) == sorted(wanted), sorted(found.keys() ^ wanted.keys())[:5]
    for name, (state, body) in wanted.items():
        if body is None:
            assert json.loads(found[name].read_bytes())["state"] == state, name
        else:
            assert found[name].read_bytes() == body, f"{name} is not the image that it should be"


def poison_is_set_aside(siege: Siege, tasks: list[dict[str, Any]]) -> None:
    """Poison, and nothing else, is in the list of dead letters, with its reason."""
    poison = {task["id"] for task in tasks if kind(task["name"]) == "poison"}
    letters = siege.client.get("/v1/dead-letters", params={"limit": 1000}).raise_for_status().json()["items"]
    assert {letter["task"] for letter in letters} == poison
    for letter in letters:
        assert slug(letter["error"]) in LOST_REASONS, letter
        assert letter["error"]["detail"], letter
        assert letter["attempts"] == ATTEMPTS, letter
    reasons = Counter(slug(letter["error"]) for letter in letters)
    assert reasons["worker-crashed"] > len(letters) // 2, reasons
    wanted = {f"{one}/0" for one in poison}
    siege.until(lambda: asyncio.run(_dead(siege)) == wanted, "the queue's copies of dead letters")


async def _dead(siege: Siege) -> set[str]:
    async with siege.queue() as queue:
        letters = await queue.dead(1000)
        assert all(letter.reason for letter in letters)
        return {letter.message.id for letter in letters}


def bad_ones_failed_alone(siege: Siege, tasks: list[dict[str, Any]]) -> None:
    """With their reason, at their first try: if an attempt was lost before, then with its place."""
    once = 0
    for task in tasks:
        if kind(task["name"]) != "bad":
            continue
        whole = siege.client.get(f"/v1/tasks/{task['id']}").raise_for_status().json()
        assert slug(whole["error"]) in BAD_REASONS, whole
        assert {slug(lost["error"]) for lost in whole["lost_attempts"] if lost.get("error")} <= LOST_REASONS, whole
        once += whole["attempts"] == 1
    assert once > siege.size.bad // 2, "a blow hits few of them"


async def _left(siege: Siege) -> int:
    async with siege.queue() as queue:
        depth = await queue.depth()
        return depth.waiting + depth.leased


def nothing_is_left(siege: Siege) -> None:
    """Messages that came twice have been taken too."""
    siege.until(lambda: asyncio.run(_left(siege)) == 0, "the queue is empty")


def judge(siege: Siege, expected: Mapping[str, bytes]) -> None:
    """All of it: after the siege, when late messages have come too, and when poison has been run again."""
    ends = {"good": ["succeeded"], "bad": ["failed"], "poison": ["failed"]}
    living = [*siege.workers, *(node.process for node in siege.nodes.values())]
    assert [process.poll() for process in living] == [None] * len(living), "only those ended that were killed"
    nothing_is_left(siege)
    tasks = tasks_of(siege)
    ended_once(siege, tasks, ends)
    stored_whole(siege, tasks, expected)
    bad_ones_failed_alone(siege, tasks)
    poison_is_set_aside(siege, tasks)
    assert {task["target"] for task in tasks} >= set(siege.nodes), "every node has worked"


def judge_redriven(siege: Siege, expected: Mapping[str, bytes]) -> None:
    """Once the cause is gone, what was poison succeeds, and nothing else has changed."""
    tasks = tasks_of(siege)
    poison = sorted(task["id"] for task in tasks if kind(task["name"]) == "poison")
    answer = siege.client.post("/v1/dead-letters/redrive", json={"tasks": poison}).raise_for_status()
    assert sorted(answer.json()["tasks"]) == poison

    def succeeded() -> bool:
        return all(siege.client.get(f"/v1/tasks/{one}").json()["state"] == "succeeded" for one in poison)

    siege.until(succeeded, "what was poison succeeds")
    nothing_is_left(siege)
    tasks = tasks_of(siege)
    ends = {"good": ["succeeded"], "bad": ["failed"], "poison": ["failed", "succeeded"]}
    ended_once(siege, tasks, ends)
    stored_whole(siege, tasks, expected)
    assert not siege.client.get("/v1/dead-letters").raise_for_status().json()["items"]
    assert asyncio.run(_dead(siege)) == set()
