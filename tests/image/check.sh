#!/usr/bin/env bash
# Builds the `serve` image without a Docker daemon, and runs it as a cluster would: not root, read-only
# root file system, a store mounted read-only. It must answer right, and stop cleanly on SIGTERM.
# Needs root, and Debian's buildah; where no image registry answers, debootstrap makes a stand-in base.
# usage: tests/image/check.sh STORE    (a demo store: the example's answer is known)
set -euo pipefail
cd "$(dirname "$0")/../.."
store=$(realpath "$1")
image=localhost/resnet-heads-check
export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot

work=$(mktemp -d)
server=
finish() {
    [ -z "$server" ] || kill -KILL "$server" 2>/dev/null || true
    buildah rm resnet-heads-check >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap finish EXIT

base=$(sed -n 's/^ARG BASE=//p' Dockerfile)
if ! buildah pull -q "$base" >/dev/null 2>&1; then
    base=localhost/resnet-heads-stand-in
    if ! buildah images -q "$base" >/dev/null 2>&1; then
        echo "no image registry answers; making a stand-in base of Debian bookworm"
        debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$work/base" >"$work/log" ||
            { cat "$work/log"; exit 1; }
        rm -rf "$work"/base/var/cache/apt/archives/*.deb
        container=$(buildah from scratch)
        buildah add -q "$container" "$work/base" / >/dev/null
        buildah commit -q "$container" "$base" >/dev/null
        buildah rm "$container" >/dev/null
    fi
fi

# what the machine trusts, the build trusts
bundle=${PIP_CERT:-/etc/ssl/certs/ca-certificates.crt}
certificates=$(dirname "$bundle")
echo "building"
buildah bud -q --format docker --build-arg BASE="$base" --build-arg PIP_CERT="$bundle" \
    --volume "$certificates:$certificates:ro" --tag "$image" . >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }

inspect() { buildah inspect --type image --format "$1" "$image"; }
buildah from -q --name resnet-heads-check "$image" >/dev/null
root=$(buildah mount resnet-heads-check)
readarray -t environment < <(inspect '{{range .Docker.Config.Env}}{{println .}}{{end}}' | sed '/^$/d')
readarray -t command < <(inspect '{{range .Docker.Config.Entrypoint}}{{println .}}{{end}}{{range .Docker.Config.Cmd}}{{println .}}{{end}}' | sed '/^$/d')
user=$(inspect '{{.Docker.Config.User}}')
[ -n "$user" ] && [ "$user" != root ] || { echo "FAILED: the image runs as root"; exit 1; }
[ -n "$(inspect '{{.Docker.Config.Healthcheck}}')" ] || { echo "FAILED: no HEALTHCHECK"; exit 1; }
if [ -n "$(find "$root"/opt/venv -maxdepth 5 -iname 'tensorflow*' -o -maxdepth 5 -iname 'keras*' -prune | grep -v openvino | head -1)" ]; then
    echo "FAILED: TensorFlow is in the serve image"; exit 1
fi

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
# every step execs the next, so that $! is the server itself
unshare --mount bash -c '
    set -e
    root=$1 store=$2 user=$3; shift 3
    mount --bind "$root" "$root"
    mount --bind "$store" "$root/model_store"
    mount -o remount,ro,bind "$root/model_store"
    mount -t tmpfs tmpfs "$root/tmp"
    mount -t proc proc "$root/proc"
    mount --bind /dev "$root/dev"
    mount -o remount,ro,bind "$root"
    exec chroot --userspec="$user" "$root" "$@"
' image "$root" "$store" "$user" /usr/bin/env -i "${environment[@]}" RESNET_HEADS_PORT="$port" \
    RESNET_HEADS_HOST=127.0.0.1 "${command[@]}" >"$work/serve.log" 2>&1 &
server=$!

for _ in $(seq 300); do
    curl -sf "localhost:$port/readyz" >/dev/null && break
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
done
[ "$(stat -c %u "/proc/$server")" != 0 ] || { echo "FAILED: it runs as root"; exit 1; }
answer=$(curl -sf --data-binary @examples/red-top-left.jpg "localhost:$port/predict?head=flatten&top_k=1") ||
    { echo "FAILED: no answer"; cat "$work/serve.log"; exit 1; }
case $answer in *'"label":"red-top-left"'*) ;; *) echo "FAILED: $answer"; exit 1 ;; esac

curl -sf "localhost:$port/" | grep -q '<script type="module"' || { echo "FAILED: no page"; exit 1; }
curl -sf --data-binary @examples/red-top-left.jpg "localhost:$port/explain?head=flatten" | grep -q '"grid"' ||
    { echo "FAILED: no map"; cat "$work/serve.log"; exit 1; }

kill -TERM "$server"
status=0
wait "$server" || status=$?
server=
[ "$status" = 0 ] || { echo "FAILED: exit status $status on SIGTERM"; cat "$work/serve.log"; exit 1; }
echo "image: right answer as user $user on a read-only root, clean stop; $(buildah images --format '{{.Size}}' "$image") with its base"
