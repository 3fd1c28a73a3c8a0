#!/usr/bin/env bash
# Runs testssl.sh and sslscan (Debian's packages) against the real vault over TLS, with an ECDSA and an RSA certificate, and
# fails when one of them finds something of MEDIUM or worse. `npm run test:long` runs it; it takes minutes.
# With an address, such as 127.0.0.1:8200, only sslscan runs, against what listens there: seconds, and part of `npm test`.
set -euo pipefail
cd "$(dirname "$0")/.."
address=${1:-}

need=()
command -v sslscan >/dev/null || need+=(sslscan)
[ -n "$address" ] || command -v testssl >/dev/null || need+=(testssl.sh)
[ -n "$address" ] || command -v openssl >/dev/null || need+=(openssl)
if [ ${#need[@]} -gt 0 ]; then
  [ -z "$address" ] || { echo "missing: ${need[*]}"; exit 77; }
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || { echo "missing: ${need[*]}"; exit 77; }
  (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${need[@]}") >/dev/null ||
    { echo "could not install ${need[*]}"; exit 77; }
fi

place=$(mktemp -d)
chmod 711 "$place"
server=
finish() {
  [ -z "$server" ] || { kill "$server" 2>/dev/null && wait "$server" 2>/dev/null; } || true
  rm -rf "$place"
}
trap finish EXIT

bad=0
complain() { echo "sslscan: $1"; bad=1; }
scan() {
  echo "sslscan …"
  sslscan --no-colour --show-certificate "$address" >"$place/sslscan.txt"
  grep -E '^(SSLv2|SSLv3|TLSv1\.[0-3]|TLSv1) .*(enabled|disabled)|Accepted|Preferred' "$place/sslscan.txt" | sed 's/^/  /'
  grep -qE '^(SSLv2|SSLv3|TLSv1\.0|TLSv1\.1) +enabled' "$place/sslscan.txt" && complain 'an old version is enabled'
  grep -qE '^(Preferred|Accepted)' "$place/sslscan.txt" || complain 'no suite is accepted'
  grep -E '^(Preferred|Accepted)' "$place/sslscan.txt" | grep -vE 'TLS_(AES|CHACHA20)|ECDHE-(ECDSA|RSA)-(AES(128|256)-GCM|CHACHA20)' && complain 'a weak suite is accepted'
  grep -qE 'Compression +enabled' "$place/sslscan.txt" && complain 'compression'
  grep -qiE 'vulnerable to heartbleed' <(grep -v 'not vulnerable' "$place/sslscan.txt") && complain 'heartbleed'
  grep -qE 'Server supports TLS Fallback SCSV' "$place/sslscan.txt" || complain 'no fallback signal'
}
verdict() {
  [ "$bad" = 0 ] && echo 'nothing of MEDIUM or worse'
  exit "$bad"
}
if [ -n "$address" ]; then
  scan
  verdict
fi

# An authority and two certificates for this machine, as an operator would bring them.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$place/ca.key" -out "$place/ca.crt" -days 90 \
  -subj '/CN=Scan' -addext 'keyUsage=critical,keyCertSign,cRLSign' 2>/dev/null
certificate() { # name, options of the key
  local name=$1; shift
  openssl req -x509 -CA "$place/ca.crt" -CAkey "$place/ca.key" "$@" -nodes -keyout "$place/$name.key" -out "$place/$name.crt" -days 90 \
    -subj '/CN=localhost' -addext 'subjectAltName=DNS:localhost,IP:127.0.0.1' -addext 'basicConstraints=critical,CA:FALSE' \
    -addext 'keyUsage=critical,digitalSignature' -addext 'extendedKeyUsage=serverAuth' 2>/dev/null
}
certificate ecdsa -newkey ec -pkeyopt ec_paramgen_curve:P-256
certificate rsa -newkey rsa:2048

mkdir -m 711 "$place/data"
BULLA_DATA_DIR="$place/data" BULLA_LISTEN=127.0.0.1:0 BULLA_LOG_LEVEL=warn \
  BULLA_TLS_CERT_FILE="$place/ecdsa.crt,$place/rsa.crt" BULLA_TLS_KEY_FILE="$place/ecdsa.key,$place/rsa.key" \
  BULLA_TLS_CLIENT_CERTIFICATES="${BULLA_TLS_CLIENT_CERTIFICATES:-false}" \
  node dist/bundle/main.js server >"$place/out" 2>"$place/err" &
server=$!
for _ in $(seq 300); do
  grep -q 'running at' "$place/out" && break
  kill -0 "$server" 2>/dev/null || { cat "$place/err"; exit 1; }
  sleep 0.2
done
address=127.0.0.1:$(sed -n 's#.*running at https://127.0.0.1:##p' "$place/out")

scan

echo "testssl.sh …"
# Of the throwaway certificate, not of the listener: that it names no list and no responder for revocation.
testssl --quiet --color 0 --warnings off --add-ca "$place/ca.crt" --jsonfile "$place/testssl.json" --severity MEDIUM \
  "https://localhost:${address##*:}" >"$place/testssl.txt" 2>&1 || true
[ -s "$place/testssl.json" ] || { cat "$place/testssl.txt"; echo 'testssl.sh said nothing'; exit 1; }
node - "$place/testssl.json" <<'END' || bad=1
const { readFileSync } = require('node:fs');
const findings = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const ofTheCertificate = /^cert_(revocation|crlDistributionPoints|ocspURL)|^cert_validityPeriod/;
const serious = findings.filter(
  ({ severity, id }) => /^(MEDIUM|HIGH|CRITICAL|FATAL)$/.test(severity) && !ofTheCertificate.test(id),
);
for (const { id, severity, finding } of serious) console.log(`testssl.sh: ${severity} ${id}: ${finding}`);
process.exit(serious.length === 0 ? 0 : 1);
END
grep -E '^ *(TLS 1|SSLv|NPN|ALPN|Overall Grade|Final Score)' "$place/testssl.txt" | sed 's/^/  /' || true
verdict
