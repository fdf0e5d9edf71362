#!/usr/bin/env bash
# Installs what pip cannot on Debian and Ubuntu: a C++ compiler and Python's headers, with which the messages are
# compiled, and OpenGL that renders the simulated cameras without a display. Does nothing where all is present.
set -euo pipefail

python=${PYTHON:-python3}
packages=(g++ make libegl1 libegl-mesa0 libgl1 libgl1-mesa-dri libopengl0)

if ! command -v dpkg-query >/dev/null; then
  echo "Not Debian or Ubuntu; install the equivalents of: ${packages[*]} python3-dev python3-venv" >&2
  exit 1
fi

# Another Python than the system's brings these itself.
"$python" -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3-venv)
"$python" -c 'import pathlib, sys, sysconfig
sys.exit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").is_file())' 2>/dev/null || packages+=(python3-dev)

missing=()
for package in "${packages[@]}"; do
  state=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
  [[ $state == installed* ]] || missing+=("$package")
done
[[ ${#missing[@]} -gt 0 ]] || exit 0

if [[ $EUID -ne 0 ]]; then
  echo "Missing system packages; run: sudo apt-get install ${missing[*]}" >&2
  exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}"
