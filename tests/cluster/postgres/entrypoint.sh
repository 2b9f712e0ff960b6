#!/bin/sh
# PostgreSQL for the tests: makes its cluster at the first start, with one role and one database, and serves by TLS alone.
#   POSTGRES_DATA           folder of the cluster, on a volume; its parent gets the socket
#   POSTGRES_USER           the role, and who owns the database of POSTGRES_DB
#   POSTGRES_PASSWORD_FILE  the role's password, on one line
#   POSTGRES_TLS            folder with tls.crt and tls.key, and ca.crt where clients may show certificates
#   /init/*.sql             run as the superuser in the new database, if there are any
# Further arguments go to postgres, such as -c max_connections=50.
set -eu
export PATH=/usr/bin:/bin
: "${POSTGRES_DATA:=/var/lib/postgresql/data}" "${POSTGRES_USER:=agentwrit}" "${POSTGRES_DB:=agentwrit}"
: "${POSTGRES_PASSWORD_FILE:=/run/secrets/password/password}" "${POSTGRES_TLS:=/run/secrets/tls}"
socket=${POSTGRES_DATA%/*}

# No peer, no plain TCP, and nobody without a password from outside.
clients() {
  printf 'local all all trust\nhostssl all all all %s\nhost all all all reject\n' scram-sha-256 >"$POSTGRES_DATA/pg_hba.conf"
}

first_start() {
  initdb --pgdata "$POSTGRES_DATA.new" --username postgres --auth trust --encoding UTF8 --locale C.UTF-8 --no-sync >/dev/null
  pg_ctl --pgdata "$POSTGRES_DATA.new" --options "-c listen_addresses= -k $socket" --silent --wait start
  # Without a line end at its end read says 1.
  read -r password <"$POSTGRES_PASSWORD_FILE" || [ -n "$password" ]
  # By the environment: psql quotes it, and no command line has it.
  export password
  psql --host "$socket" --username postgres --dbname postgres --quiet --no-psqlrc --set ON_ERROR_STOP=1 \
    --set user="$POSTGRES_USER" --set db="$POSTGRES_DB" <<'SQL'
\getenv password password
CREATE ROLE :"user" LOGIN PASSWORD :'password';
CREATE DATABASE :"db" OWNER :"user";
SQL
  unset password
  for file in /init/*.sql; do
    [ ! -e "$file" ] || psql --host "$socket" --username postgres --dbname "$POSTGRES_DB" --quiet --no-psqlrc --set ON_ERROR_STOP=1 --file "$file"
  done
  pg_ctl --pgdata "$POSTGRES_DATA.new" --mode fast --silent --wait stop
  # Whole, or not there: what a killed first start left is made again.
  mv "$POSTGRES_DATA.new" "$POSTGRES_DATA"
}

if [ ! -e "$POSTGRES_DATA" ]; then
  rm -rf "$POSTGRES_DATA.new"
  first_start
fi
clients
ca=
[ ! -e "$POSTGRES_TLS/ca.crt" ] || ca="-c ssl_ca_file=$POSTGRES_TLS/ca.crt"
# shellcheck disable=SC2086 # nothing, or two words
postgres -D "$POSTGRES_DATA" -k "$socket" -c listen_addresses='*' -c ssl=on \
  -c ssl_cert_file="$POSTGRES_TLS/tls.crt" -c ssl_key_file="$POSTGRES_TLS/tls.key" $ca "$@" &
server=$!
# SIGTERM would wait for every client to go.
trap 'kill -INT "$server"' TERM INT
wait "$server" && status=0 || status=$?
# The first wait ends with the signal.
wait "$server" 2>/dev/null && status=0 || status=$?
exit "$status"
