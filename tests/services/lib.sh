# What all services share. To be sourced, by up and down. A service is a file: `up` starts it and prints where it is, `down` stops it.

services="${FOREBAY_SERVICES:-${TMPDIR:-/tmp}/forebay-services-$(id -un)}"
# What is fetched once: programs of services.
cache="${FOREBAY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/forebay}"

# The services that there are.
names() {
  local file
  for file in *.sh; do
    [ "$file" = lib.sh ] || printf '%s ' "${file%.sh}"
  done
}

# Whether each of these is a service, and there is one at least.
named() {
  local name
  [ $# -gt 0 ] || return 1
  for name in "$@"; do
    [[ " $(names) " == *" $name "* ]] || return 1
  done
}

# So many ports of this machine that nobody has.
free_ports() {
  python3 - "$1" <<'PYTHON'
import socket, sys
sockets = [socket.socket() for _ in range(int(sys.argv[1]))]
for one in sockets:
    one.bind(("127.0.0.1", 0))
print(*(one.getsockname()[1] for one in sockets))
PYTHON
}
