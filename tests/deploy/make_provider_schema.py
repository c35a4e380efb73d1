"""Writes `provider_schema.json`: the arguments of the Terraform resources that deploy/ uses, as their providers say.

`terraform validate` needs the providers themselves, hundreds of megabytes that not every machine can fetch. The
packages `cdktn-provider-*` of PyPI are made from the providers' own schemas; their class signatures are read here, not
run. After a resource of another type is used, or a provider's major version is raised:

    pip install --no-deps --no-compile --target FOLDER cdktn-provider-aws cdktn-provider-azurerm cdktn-provider-google
    python tests/deploy/make_provider_schema.py FOLDER
"""

from __future__ import annotations

import ast
import json
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
DEPLOY = HERE.parents[1] / "deploy"
SCHEMA = HERE / "provider_schema.json"
# Of the language, or of the bindings: no arguments of a resource.
NOT_ARGUMENTS = {
    "connection",
    "count",
    "depends_on",
    "for_each",
    "lifecycle",
    "provider",
    "provisioners",
}
ALWAYS = {"timeouts", "id", "tags_all"}


def used() -> list[tuple[str, str]]:
    """Kind (resource or data) and type of everything that deploy/ declares."""
    found = re.compile(r'^(resource|data) "(\w+)"', re.MULTILINE)
    return sorted({pair for path in DEPLOY.rglob("*.tf") for pair in found.findall(path.read_text())})


def parameters(one: ast.ClassDef) -> dict[str, tuple[bool, str]]:
    """Of its ``__init__``: whether each must be there, and the text of its type."""
    (init,) = [node for node in one.body if isinstance(node, ast.FunctionDef) and node.name == "__init__"]
    arguments = init.args
    found = {}
    for node, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        if node.arg not in NOT_ARGUMENTS:
            found[node.arg.rstrip("_")] = (default is None, ast.unparse(node.annotation) if node.annotation else "")
    return found


def block(one: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> dict[str, Any]:
    """Arguments by name: ``[must be there, block inside]``; an empty block is a plain value."""
    result: dict[str, Any] = {}
    for name, (must, kind) in parameters(one).items():
        inner = [word for word in re.findall(r"\w+", kind) if word in classes and word != one.name]
        result[name] = [must, block(classes[inner[0]], classes) if inner and name not in ALWAYS else {}]
    return result


def described(folder: Path, kind: str, name: str) -> dict[str, Any]:
    """One resource or data source."""
    provider, _, rest = name.partition("_")
    module = ("data_" if kind == "data" else "") + (f"{provider}_" if kind == "data" else "") + rest
    path = next(folder.glob(f"cdktn_provider_{provider}/{module}/__init__.py"))
    tree = ast.parse(path.read_text())
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    wanted = module.replace("_", "")
    # An A follows where the name would be that of another resource's block.
    (one,) = [node for key, node in classes.items() if key.lower() in {wanted, f"{wanted}a"}]
    return block(one, classes)


def main() -> int:
    """Read, and write."""
    folder = Path(sys.argv[1])
    about = [item.read_text("METADATA") or "" for item in metadata.distributions(path=[str(folder)])]
    schema = {
        "providers": dict(re.findall(r"hashicorp/(\w+) provider version ([0-9.]+)", "\n".join(about))),
        **{f"{kind}.{name}": described(folder, kind, name) for kind, name in used()},
    }
    lines = [f"{json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}" for key, value in schema.items()]
    SCHEMA.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
