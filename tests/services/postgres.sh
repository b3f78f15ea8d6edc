# PostgreSQL: the machine's, or Debian's package, unpacked where nothing is installed (no root needed). To be sourced.

data="$services/postgres"
# Debian's package, where nothing is installed: where everybody may read it, since root's own folders are closed to nobody.
unpacked="$services/postgres-programs"

up() {
  local programs port
  programs="$(find_programs)"
  if running; then
    url
    return
  fi
  if [ -e "$data/whole" ]; then
    start
    return
  fi
  # PostgreSQL refuses to run as root: then its files are nobody's, and so is the process.
  rm -rf "$data"
  mkdir -p "$services"
  mkdir -m 700 "$data"
  [ "$(id -u)" != 0 ] || chown nobody "$data"
  port="$(free_ports 1)"
  run_as_nobody "$programs/initdb" --pgdata="$data/data" --username=forebay --auth=trust --encoding=UTF8 --locale=C --no-sync > "$data.log" 2>&1 \
    || { cat "$data.log" >&2; exit 1; }
  cat >> "$data/data/postgresql.conf" <<CONF
listen_addresses = '127.0.0.1'
port = $port
unix_socket_directories = ''
fsync = off
max_connections = 300
CONF
  # Who is given this role needs a password.
  run_as_nobody sed -i '1i host all +needs_password 127.0.0.1/32 scram-sha-256' "$data/data/pg_hba.conf"
  echo "CREATE ROLE needs_password" | run_as_nobody "$programs/postgres" --single -D "$data/data" postgres > "$data.log" 2>&1 \
    || { cat "$data.log" >&2; exit 1; }
  touch "$data/whole"
  start
}

down() {
  if running; then
    run_as_nobody "$(find_programs)/pg_ctl" --pgdata="$data/data" --mode=fast --wait stop > /dev/null
  fi
  rm -rf "$data" "$data.log"
}

start() {
  run_as_nobody "$programs/pg_ctl" --pgdata="$data/data" --log="$data/server.log" --wait --timeout=60 start > "$data.log" 2>&1 \
    || { cat "$data.log" "$data/server.log" >&2; exit 1; }
  url
}

# As who runs the tests, or as nobody where that is root.
run_as_nobody() {
  local libraries
  libraries="$(echo "$unpacked"/usr/lib/*-linux-gnu*)"
  if [ "$(id -u)" = 0 ]; then
    (cd / && LD_LIBRARY_PATH="$libraries" setpriv --reuid=nobody --regid="$(id -g nobody)" --clear-groups -- "$@")
  else
    LD_LIBRARY_PATH="$libraries" "$@"
  fi
}

# The folder of initdb and pg_ctl: installed, or unpacked from Debian's package.
find_programs() {
  local folder
  for folder in "$(dirname "$(readlink -f "$(command -v initdb || echo /none)")")" /usr/lib/postgresql/*/bin; do
    if [ -x "$folder/initdb" ] && [ -x "$folder/pg_ctl" ]; then
      echo "$folder"
      return
    fi
  done
  if ! ls "$unpacked"/usr/lib/postgresql/*/bin/initdb > /dev/null 2>&1; then
    command -v apt-get > /dev/null \
      || { echo "PostgreSQL is not installed (no initdb): install its server" >&2; return 1; }
    rm -rf "$unpacked"
    mkdir -p "$unpacked/packages"
    local version
    version="$(apt-cache depends postgresql | sed -n 's/.*Depends: \(postgresql-[0-9]*\)$/\1/p' | head -1)"
    (cd "$unpacked/packages" && apt-get download "$version" "postgresql-client-${version##*-}" libpq5 > /dev/null) >&2 \
      || { echo "PostgreSQL is not installed, and $version cannot be fetched: install its server" >&2; return 1; }
    for folder in "$unpacked"/packages/*.deb; do dpkg-deb -x "$folder" "$unpacked"; done
  fi
  ls -d "$unpacked"/usr/lib/postgresql/*/bin
}

# Whether the server that was started here is there: by the process that it wrote down.
running() {
  local process
  process="$(head -1 "$data/data/postmaster.pid" 2> /dev/null)" || return 1
  [ -n "$process" ] && kill -0 "$process" 2> /dev/null
}

url() {
  local port
  port="$(sed -n 4p "$data/data/postmaster.pid")"
  echo "export FOREBAY_POSTGRES=postgres://forebay@127.0.0.1:$port/postgres"
}
