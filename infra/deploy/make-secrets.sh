#!/bin/sh
# Draws the secrets that docker-compose.yml reads, each once; what is there stays. Prints no secret.
# The folder is closed to others (0700). The files in it are not: Compose mounts them as they are, and the users
# inside the containers have other numbers than you.
set -eu
folder="$(dirname "$0")/secrets"
umask 077
mkdir -p "$folder"
chmod 700 "$folder"

keep() { # name, value: writes the file whole before it gets its name
    [ -s "$folder/$1" ] && return
    printf '%s' "$2" >"$folder/$1.new"
    chmod 644 "$folder/$1.new"
    mv "$folder/$1.new" "$folder/$1"
    echo "drew $folder/$1"
}

draw() { od -An -v -tx1 -N24 /dev/urandom | tr -d ' \n'; }

keep postgres_password "$(draw)"
keep database_url "postgresql://commons:$(cat "$folder/postgres_password")@postgres:5432/commons"
keep grafana_password "$(draw)"
