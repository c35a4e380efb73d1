#!/bin/sh
# Brings what checks deploy/, in an environment of its own. What can't be had is said, and its tests skip (in CI they fail).
set -eu
venv=$1 python=$2

"$python" -m venv "$venv"
"$venv/bin/python" -m pip --disable-pip-version-check --quiet install --prefer-binary --requirement tests/deploy/requirements.txt ||
  echo "pip could not bring tests/deploy/requirements.txt: tests of deployment files skip."
touch "$venv/installed"
