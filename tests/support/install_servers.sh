#!/bin/sh
# Brings the servers that the tests start: by Debian's packages where we are root there, and by npm.
# What can't be had is said, and its tests skip (in CI they fail). Nothing is started, and no service is enabled.
set -eu
venv=$1

has() { command -v "$1" >/dev/null 2>&1; }

packages=
[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || packages="$packages rabbitmq-server"
has redis-server || packages="$packages redis-server"
[ -n "$(find /usr/lib/postgresql -name postgres -path '*/bin/*' 2>/dev/null)" ] || has postgres || packages="$packages postgresql"
has npm || packages="$packages npm"
has ip || packages="$packages iproute2"
has chromium || packages="$packages chromium"
if [ -n "$packages" ]; then
  if has apt-get && [ "$(id -u)" = 0 ]; then
    echo "Installing$packages"
    # Debian starts what it installs, on all addresses: a policy forbids that as long as this runs.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
      printf '#!/bin/sh\nexit 101\n' >"$policy"
      chmod +x "$policy"
      trap 'rm -f "$policy"' EXIT
    fi
    apt-get update -qq || true
    # shellcheck disable=SC2086 -- words are wanted
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >/dev/null
  else
    echo "Not here, and not installed without Debian's root:$packages. Tests that need them skip."
  fi
fi
if [ ! -e "$venv/node/node_modules/.bin/azurite" ] && ! has azurite; then
  if has npm; then
    mkdir -p "$venv/node"
    # Node brings a list of authorities of its own; networks with a proxy have theirs in the system's.
    system=/etc/ssl/certs/ca-certificates.crt
    if [ -z "${NODE_EXTRA_CA_CERTS:-}" ] && [ -e "$system" ]; then export NODE_EXTRA_CA_CERTS="$system"; fi
    npm install --silent --no-fund --no-audit --ignore-scripts --fetch-timeout=60000 --prefix "$venv/node" azurite@3.35.0 ||
      echo "npm could not bring Azurite: tests that need it skip."
  else
    echo "npm is not here: tests that need Azurite skip."
  fi
fi
