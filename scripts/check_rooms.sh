#!/usr/bin/env bash
# Checks the rules of the house (who includes whom, who prints, who starts threads, file sizes).
# usage: scripts/check_rooms.sh [ROOT]
set -euo pipefail
exec python3 "$(dirname "$0")/check_rooms.py" "$@"
